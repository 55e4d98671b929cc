"""The models that come with this package, a folder each, as `pir export` writes them (docs/zoo.md).

There is no code here: `pir.runs.names` finds them as `zoo:NAME`.
"""
