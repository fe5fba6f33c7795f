"""Import all that one installed distribution supplies; run by `nox -s wheels` where nothing but its dependencies is.

Arguments: the distribution, its version, `with` or `without` torch, and the packages it supplies.
"""

import importlib
import importlib.metadata
import importlib.util
import pkgutil
import sys

distribution, version, torch, *packages = sys.argv[1:]
if importlib.metadata.version(distribution) != version:
    sys.exit(f"{distribution} is installed as {importlib.metadata.version(distribution)}, not as {version}")
if torch == "without" and importlib.util.find_spec("torch"):
    sys.exit(f"{distribution} brought torch")
for package in packages:
    module = importlib.import_module(package)
    if "site-packages" not in str(module.__file__):
        sys.exit(f"{package} comes from {module.__file__}, not from the wheel")
    for found in pkgutil.walk_packages(module.__path__, f"{package}."):
        # Programs run when imported; benchmarks compare with what an extra brings.
        if not found.name.endswith("__main__") and not found.name.startswith("s3torch.harness.bench"):
            try:
                importlib.import_module(found.name)
            except ImportError as error:
                # What an extra brings may be missing, and says so: by the extra's name, or as `import lightning` would.
                if f"{distribution}[" not in str(error) and error.name != "lightning":
                    raise
if torch == "without" and "torch" in sys.modules:
    sys.exit(f"{distribution} imported torch")
sys.stdout.write(f"{distribution} {version} alone, {torch} torch: imports {', '.join(packages)}\n")
