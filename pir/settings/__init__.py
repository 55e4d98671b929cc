"""Settings: their types, the builder of components, what there is to choose from, plug-ins.

`build.build` makes a component of a settings node; `catalog` lists the choices.
"""
