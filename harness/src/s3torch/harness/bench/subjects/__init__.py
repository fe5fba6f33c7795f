"""What is measured. Each module runs in its own subject's environment, so here the rule is: standard library, siblings
in this folder, and the one library that the module is named after."""
