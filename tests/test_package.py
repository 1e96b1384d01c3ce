"""What importing costs, and what the package promises."""

import subprocess
import sys

import scaling

PUBLIC = [
    "Design",
    "Execution",
    "Question",
    "ScalingError",
    "Study",
    "compare",
    "estimate",
    "figure",
    "fit",
    "fit_groups",
    "load_records",
    "load_study",
    "plan",
    "run_grid",
]
HEAVY = ("torch", "timm", "pandas", "matplotlib", "scipy", "numpy", "pydantic", "sklearn")


def modules_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules, sep='\\n')"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.splitlines())


def test_public_names_are_pinned_and_resolve() -> None:
    assert sorted(scaling.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(scaling, name) is not None


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not modules_after("import scaling") & set(HEAVY)


def test_help_and_errors_import_nothing_heavy() -> None:
    assert not modules_after("import scaling.cli.app") & set(HEAVY)


def test_what_needs_no_torch_does_not_import_it() -> None:
    code = "import scaling.design, scaling.cost, scaling.records, scaling.laws, scaling.figures.figure1, scaling.grid"
    assert "torch" not in modules_after(code)


def test_planning_a_grid_on_the_cpu_does_not_import_torch() -> None:
    code = (
        "from scaling.grid import find_device, plan_jobs\nfrom scaling.design import load_study\n"
        "plan_jobs(load_study('digits-quick'), find_device('cpu'), 1)"
    )
    assert "torch" not in modules_after(code)


def test_unknown_names_are_attribute_errors() -> None:
    assert not hasattr(scaling, "fti")
