"""The reasoners: one file per architecture, each a `pir.reasoner.Reasoner`."""
