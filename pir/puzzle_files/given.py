"""Puzzles that somebody else made: read from a file, checked, and parted into the splits.

`FilePuzzle` is the base of puzzles that are generated or come from a file; `GivenPuzzles` is the
file itself, for any puzzle.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import TypedDict, Unpack

import numpy as np
import torch
from tensordict import TensorDict
from torch import Tensor

from pir.checks import check_choice, check_keywords, check_pairs
from pir.errors import UserError
from pir.puzzle import KEY_RANGE, SPLITS, Puzzle, instances, split_range
from pir.puzzle_files.batch import Batch, Fault
from pir.puzzle_files.epochs import shuffled_epochs
from pir.puzzle_files.reader import read_puzzles
from pir.puzzle_files.source import Progress
from pir.system.terminal import printable, say

AT_ONCE = 500
"""Puzzles that are checked together; an interrupt comes through between."""

FAULTS_SHOWN = 20
FAULTS_KEPT = 10_000

TOO_HARD = "no answer is given, and the search for one was given up"


class FileSettings(TypedDict, total=False):
    """Settings of puzzles that may come from a file.

    Attributes:
        puzzles: file of puzzles, taken instead of generated ones (docs/puzzles.md has the forms).
        train_puzzles: train on so many puzzles of the file; null for all of the training split.
        augment_file: whether training sees the file's puzzles in random symmetric images.
        reveal_file: fewest and most blanks of a training puzzle of the file that are filled in from
            its answer, drawn anew every time, as easier puzzles beside the hard; None for none.
        skip_faulty: leave out what cannot be read, and puzzles without the answers they need,
            instead of refusing the file.
    """

    puzzles: str | None
    train_puzzles: int | None
    augment_file: bool
    reveal_file: tuple[int, int] | None
    skip_faulty: bool


class FilePuzzle(Puzzle):
    """A puzzle whose instances are generated, or come from a file.

    A subclass gives `generate`, or a faster `sample_new`; its constructor hands on the settings.

    Args:
        file: the settings of the file; see `FileSettings`.

    Raises:
        UserError: if a setting is unknown, or needs a file and there is none, or is out of range.
    """

    def __init__(self, **file: Unpack[FileSettings]) -> None:
        """Opens nothing yet."""
        check_keywords("env", file, type(self), FileSettings)
        self.puzzles = file.get("puzzles")
        self.train_puzzles = file.get("train_puzzles")
        self.augment_file = file.get("augment_file", True)
        self.reveal_file = file.get("reveal_file")
        self.skip_faulty = file.get("skip_faulty", False)
        if self.puzzles is not None and type(self).sample is not FilePuzzle.sample:
            name = type(self).__name__
            raise UserError(f"env.puzzles: {name} overrides sample; call that method sample_new")
        if self.puzzles is None and self.train_puzzles is not None:
            raise UserError(f"env.train_puzzles={self.train_puzzles} needs env.puzzles=FILE")
        if self.reveal_file is not None:
            check_pairs("env", reveal_file=self.reveal_file)
            fewest, most = self.reveal_file
            if not 0 <= fewest <= most:
                raise UserError(f"env.reveal_file={[fewest, most]}: allowed is 0 <= fewest <= most")
            if self.puzzles is None:
                raise UserError(f"env.reveal_file={[fewest, most]} needs env.puzzles=FILE")
            if not self.reveals:
                raise UserError("env.reveal_file: answers of this puzzle cannot be given in parts")

    def sample(self, count: int, split: str, *, seed: int, start: int = 0) -> TensorDict:
        """Generates instances, or draws them from the file; see `Puzzle.sample`.

        The training stream goes through the file's puzzles in a new random order every epoch; the
        held-out streams hold every puzzle once, in the order of the file.
        """
        check_choice("split", split, SPLITS)
        if self.puzzles is None:
            return self.sample_new(count, split, seed=seed, start=start)
        puzzles = self._splits.draw(count, split, seed, start)
        if split == "train" and self.augment_file:
            puzzles = self.augment(puzzles, seed=seed, start=start)
        if split == "train" and self.reveal_file is not None:
            return self._partly_revealed(puzzles, seed, start)
        return puzzles

    def _partly_revealed(self, puzzles: TensorDict, seed: int, start: int) -> TensorDict:
        """Fills in some blanks, never all, by place; none where that makes a held-out puzzle."""
        fewest, most = self.reveal_file or (0, 0)
        question, solution = puzzles["question"], puzzles["solution"]
        written = self.written(question).cpu().numpy()
        positions = np.zeros(written.shape, bool)
        for row, blank in enumerate(written):
            random = np.random.default_rng([seed, start + row])
            count = min(random.integers(fewest, most, endpoint=True), blank.sum() - 1)
            positions[row, random.permutation(blank.nonzero()[0])[: max(0, count)]] = True
        given = torch.from_numpy(positions).to(question.device)
        revealed = self.reveal(question, solution, given)
        # with more cells given it is another puzzle, which may be one of a held-out split
        low, high = split_range("train")
        kept = self.key(revealed) % KEY_RANGE
        trained = (kept >= low) & (kept < high)
        return instances(torch.where(trained[:, None], revealed, question), solution)

    def sample_new(self, count: int, split: str, *, seed: int, start: int = 0) -> TensorDict:
        """Generates instances; see `Puzzle.sample`."""
        return super().sample(count, split, seed=seed, start=start)

    def size(self, split: str) -> int | None:
        """Returns how many puzzles of the file a split holds; see `Puzzle.size`."""
        return None if self.puzzles is None else self._splits.size(split)

    def whole_file(self) -> "GivenPuzzles | None":
        """Returns all puzzles of the file in their order; None without a file."""
        if self.puzzles is None:
            return None
        given = GivenPuzzles(self, self.puzzles, "env.puzzles", self.skip_faulty)
        given.check_all()
        return given

    def training_keys(self) -> np.ndarray | None:
        """Returns the keys of the puzzles of the file that are trained on; None without a file."""
        if self.puzzles is None:
            return None
        keys: np.ndarray = self._splits.given.keys[self._splits.rows["train"]]
        return keys

    @cached_property
    def _splits(self) -> "Splits":
        assert self.puzzles is not None
        given = GivenPuzzles(self, self.puzzles, "env.puzzles", self.skip_faulty)
        return Splits(given, self.train_puzzles)


class GivenPuzzles:
    """The puzzles of a file, and a label for each that was checked.

    Answers in the file are judged by the verifier. Where a puzzle has one answer, a right one is
    the label; elsewhere the label is the first answer that the puzzle lists, as for generated
    puzzles, so that `exact_accuracy` asks for one convention.

    Args:
        puzzle: reads, judges and solves.
        path: the file; `-` for standard input.
        key: the setting that names it, for messages.
        skip_faulty: whether faults are left out or refused.

    Attributes:
        questions: uint8 of shape (N, L).
        solutions: uint8 of shape (N, L), the labels of checked puzzles.

    Raises:
        UserError: if the file cannot be read or holds no puzzle; faults are told by `finish`.
    """

    def __init__(self, puzzle: Puzzle, path: str, key: str, skip_faulty: bool = False) -> None:
        """Reads the whole file."""
        self.puzzle, self.name, self.skip_faulty = puzzle, f"{key}={path}", skip_faulty
        self.faults: list[Fault] = []
        self.faulty = 0
        batches, doubtful = [], []
        for batch in read_puzzles(puzzle, path, key):
            for fault in batch.faults:
                self._add_fault(fault)
                doubtful += [(fault.since, fault.line)] if fault.since else []
            batches.append(batch._replace(faults=[], texts={}))
        self.unit = "line" if all(batch.unit == "line" for batch in batches) else "puzzle"
        self.lines = np.concatenate([batch.lines for batch in batches])
        self.columns = np.concatenate([batch.columns for batch in batches])
        self.questions, self.solutions = _joined(batches)
        for since, last in doubtful:
            self._leave_out((self.lines >= since) & (self.lines <= last))
        self.given = np.array(self.solutions.any(axis=1), bool)
        self.good = np.zeros(len(self.lines), bool)

    @cached_property
    def keys(self) -> np.ndarray:
        """The puzzles' keys, int64 of shape (N,)."""
        keys = np.zeros(len(self.questions), np.int64)
        for rows in self._portions(np.arange(len(keys)), "looking for symmetric puzzles in"):
            keys[rows] = self.puzzle.key(self._tensor(self.questions[rows])).numpy()
        return keys

    def check(self, rows: np.ndarray) -> np.ndarray:
        """Labels some puzzles.

        Args:
            rows: int64, their places.

        Returns:
            those that have a label; the others are faults.
        """
        for portion in self._portions(rows, "checking"):
            questions = self._tensor(self.questions[portion])
            blank = self.puzzle.written(questions).any(1)
            full = (self.puzzle.verify(questions, questions).solved & ~blank).numpy()
            for row in portion[full]:
                self._fault(row, "it is solved as it stands: nothing is left to fill in")
            given = self.given[portion] & ~full
            right = np.zeros(len(portion), bool)
            if given.any():
                answers = self._tensor(self.solutions[portion[given]])
                solved = self.puzzle.verify(questions[torch.from_numpy(given)], answers).solved
                right[given] = solved.numpy()
                for row in portion[given & ~right]:
                    self._fault(row, "the answer given is not right")
            open_ = ~full & (~given if self.puzzle.unique else ~given | right)
            self.good[portion[right]] = True
            if open_.any():
                self._solve(portion[open_])
        labelled: np.ndarray = rows[self.good[rows]]
        return labelled

    def check_all(self) -> None:
        """Labels every puzzle.

        Raises:
            UserError: if there are faults, see `finish`.
        """
        self.check(np.arange(len(self.questions)))
        self.finish()

    def finish(self) -> None:
        """Refuses the file if it has faults, or says how many were left out.

        Raises:
            UserError: with the places of the first faults.
        """
        if not self.faulty:
            return
        self.faults.sort()
        places = [f"{_place(f, self.unit)}: {printable(f.reason)}" for f in self.faults]
        if self.skip_faulty and self.good.any():
            left_out = f"{self.faulty} of {self.faulty + int(self.good.sum())} puzzles left out"
            say(f"{self.name}: {left_out}, the first {places[0]}", error=True)
            return
        if self.faulty == 1 and not self.skip_faulty:
            raise UserError(f"{self.name}, {places[0]}")
        hint = "" if self.skip_faulty else " (env.skip_faulty=true leaves them out)"
        more = self.faulty - FAULTS_SHOWN
        listed = [*places[:FAULTS_SHOWN], *([f"and {more:,} more"] if more > 0 else [])]
        raise UserError(f"{self.name}: {self.faulty:,} faults{hint}\n  " + "\n  ".join(listed))

    def instances(self, rows: np.ndarray) -> TensorDict:
        """Returns checked puzzles with their labels."""
        return instances(*(self._tensor(part[rows]) for part in (self.questions, self.solutions)))

    @property
    def checked(self) -> np.ndarray:
        """The places of the puzzles that have a label, int64, in the order of the file."""
        return np.flatnonzero(self.good)

    def _leave_out(self, rows: np.ndarray) -> None:
        self.faulty += int(rows.sum())
        self.lines, self.columns = self.lines[~rows], self.columns[~rows]
        self.questions, self.solutions = self.questions[~rows], self.solutions[~rows]

    # ---------------------------------------------------------------- labels

    def _solve(self, rows: np.ndarray) -> None:
        """Labels puzzles by search; where there is none, right answers of the file are taken."""
        rule = f": {self.puzzle.no_answer}" if self.puzzle.no_answer else ""
        reasons = np.full(len(rows), "no answer is given, and this puzzle lists none", object)
        if self.puzzle.lists_solutions:
            limit = 2 if self.puzzle.unique else 1
            listed = self.puzzle.solutions(self._tensor(self.questions[rows]), limit)
            counts, given_up = listed.valid.sum(1).numpy(), listed.given_up.numpy()
            wanted = (counts == 1) & ~given_up
            self.solutions[rows[wanted]] = listed.answers[:, 0].numpy()[wanted]
            self.good[rows[wanted]] = True
            reasons[:] = f"no answer{rule}"
            reasons[counts > 1] = "more than one answer"
            reasons[given_up] = TOO_HARD
        for row, reason in zip(rows, reasons, strict=True):
            if not self.good[row]:
                self._fault(row, reason)

    def _portions(self, rows: np.ndarray, doing: str) -> Iterator[np.ndarray]:
        progress = Progress(self.name)
        for first in range(0, len(rows), AT_ONCE):
            yield rows[first : first + AT_ONCE]
            progress.report(doing, first + AT_ONCE, first / len(rows))

    def _tensor(self, tokens: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(tokens))

    def _fault(self, row: int, reason: str) -> None:
        self._add_fault(Fault(int(self.lines[row]), int(self.columns[row]), reason, ""))

    def _add_fault(self, fault: Fault) -> None:
        self.faulty += 1
        if len(self.faults) < FAULTS_KEPT:
            self.faults.append(fault)


def _place(fault: Fault, unit: str) -> str:
    """Returns where a fault is, as messages say it."""
    return f"{unit} {fault.line}, {'column' if unit == 'line' else 'cell'} {fault.column}"


def _joined(batches: list[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """Returns all questions and answers of some batches, which lose them on the way."""
    count = sum(len(batch.lines) for batch in batches)
    length = batches[0].questions.shape[1] if batches else 0
    questions, answers = np.zeros((2, count, length), np.uint8)
    row = 0
    for index, batch in enumerate(batches):
        rows = slice(row, row + len(batch.lines))
        questions[rows] = batch.questions
        if batch.answers is not None:
            answers[rows] = batch.answers
        row = rows.stop
        batches[index] = batch._replace(questions=questions[:0], answers=None)
    return questions, answers


class Splits:
    """The puzzles of a file parted by key; symmetric ones count once.

    Args:
        given: the file.
        train_puzzles: so many puzzles, the first of the file's training split, are trained on;
            None for all.

    Raises:
        UserError: if the file has faults, or there are fewer puzzles to train on.
    """

    def __init__(self, given: GivenPuzzles, train_puzzles: int | None) -> None:
        """Parts and checks the rows."""
        self.given = given
        first = np.zeros(len(given.keys), bool)
        first[np.unique(given.keys, return_index=True)[1]] = True
        self.rows = {}
        for split in SPLITS:
            low, high = split_range(split)
            inside = (given.keys % KEY_RANGE >= low) & (given.keys % KEY_RANGE < high)
            self.rows[split] = np.flatnonzero(inside & first)
        wanted = self.rows["train"]
        if train_puzzles is not None:
            self._refuse_fewer(train_puzzles)
            wanted = wanted[:train_puzzles]
        rest = self.rows["train"][len(wanted) :]
        others = np.concatenate([self.rows[split] for split in SPLITS if split != "train"])
        given.check(np.sort(np.concatenate([wanted, others])))
        while train_puzzles is not None and given.skip_faulty and len(rest):
            lacking = train_puzzles - int(given.good[wanted].sum())
            if lacking <= 0:
                break
            wanted = np.append(wanted, given.check(rest[:lacking]))
            rest = rest[lacking:]
        given.finish()
        self.rows["train"] = wanted
        self.rows = {split: rows[given.good[rows]] for split, rows in self.rows.items()}
        if train_puzzles is not None:
            self._refuse_fewer(train_puzzles)

    def _refuse_fewer(self, train_puzzles: int) -> None:
        if not 1 <= train_puzzles <= len(self.rows["train"]):
            raise UserError(
                f"env.train_puzzles={train_puzzles}: {self.given.name.partition('=')[2]} holds "
                f"{len(self.rows['train'])} puzzles for training"
            )

    def size(self, split: str) -> int | None:
        """Returns the length of a split's stream; None for training, which repeats."""
        return None if split == "train" else len(self.rows[split])

    def draw(self, count: int, split: str, seed: int, start: int) -> TensorDict:
        """Returns the instances `start .. start + count - 1` of a split.

        Raises:
            UserError: if the split holds fewer.
        """
        rows, source = self.rows[split], self.given.name.partition("=")[2]
        if split != "train":
            if start + count > len(rows):
                raise UserError(f"{source} holds {len(rows)} puzzles for the {split} split")
            return self.given.instances(rows[start : start + count])
        if len(rows) == 0:
            raise UserError(f"{source} holds no puzzle for training")
        return self.given.instances(rows[shuffled_epochs(len(rows), count, seed, start)])
