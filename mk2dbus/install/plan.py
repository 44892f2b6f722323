"""The steps of an installation, or of its end, on a machine as it is."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mk2dbus import __version__
from mk2dbus.host.adapters import Adapter, adapters

from . import layout
from .checks import INSTANCES, SLICE, bus_unfit
from .errors import InstallError
from .machine import Machine, Manifest, sha256
from .program import copy_program, digest, interpreter
from .steps import Check, OnUndo, PutFile, PutFolder, PutLink, Remove, RemoveFolders, Run, Step

# After files changed; the bus after the users, which it looks up when it reads its policy.
_RELOAD = (("systemctl", "daemon-reload"), ("systemctl", "reload", "dbus.service"))
_RELOAD_UDEV = (("udevadm", "control", "--reload"),)
# The ports of adapters that are plugged in get the group and names that they have without us.
_GIVE_BACK = (
    *("udevadm", "trigger", "--action=add", "--settle"),
    *("--subsystem-match=tty", "--property-match=MK2DBUS_ADAPTER=?*"),
)


@dataclass
class Plan:
    """What will be done."""

    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a person should know beside it, one line each."""
    instances: list[str] = field(default_factory=list)
    """The instances that should run afterwards."""


def plan_install(
    machine: Machine, check_policy: Callable[[], str | None], *, force: bool = False, dry_run: bool = False
) -> Plan:
    """What there is to do; no steps when all of it is there already.

    Raises:
        InstallError: it cannot be done, and why.
    """
    machine.require("install", dry_run)
    unfit = bus_unfit() if machine.live else None
    if unfit is not None:
        raise InstallError(f"{unfit}; dbus-daemon is needed")
    plan = Plan(instances=[adapter.instance(machine.root) for adapter in _plugged(machine)])
    before = machine.manifest()
    files = _files(machine, before, plan, force)
    program, program_digest, is_new = _program(machine, before)
    if before is not None and not files and not is_new:
        return plan
    users, groups = _missing_accounts(machine, before)
    if machine.live:
        plan.steps.append(OnUndo(_reload(machine)))
    if is_new:
        plan.steps.append(program)
    command = machine.path(layout.LOCAL_COMMAND)
    if not command.is_symlink() and not command.exists():
        plan.steps.append(PutLink(command, f"/{layout.LOCAL_PROGRAM}/mk2dbus"))
    elif not _is_our_link(command):
        plan.notes.append(f"{command} is another mk2dbus and stays as it is")
    plan.steps += files
    plan.steps.append(
        PutFile(
            machine.manifest_path,
            Manifest(
                version=__version__,
                program=program_digest,
                files={file.local: sha256(layout.local_content(file)) for file in layout.FILES},
                users=users,
                groups=groups,
                folders=_missing_folders(machine, before),
            )
            .text()
            .encode(),
            "what is installed",
        )
    )
    plan.steps += _accounts(machine, plan)
    if machine.live:
        plan.steps += [Run(command) for command in _reload(machine)]
        plan.steps.append(Check("that the bus has taken the policy", check_policy))
        plan.steps += _start(machine, upgrade=before is not None)
        if not machine.udev:
            plan.notes.append("udev does not run here: nothing will start the service for an adapter")
    return plan


def plan_uninstall(machine: Machine, *, purge: bool = False, dry_run: bool = False) -> Plan:
    """What there is to do; no steps when nothing of it is there.

    Raises:
        InstallError: it cannot be done, and why.
    """
    places = _places(machine)
    machine.require("uninstall", dry_run, beside_package=bool(places))
    plan = Plan()
    before = machine.manifest()
    root = machine.root
    enabled = sorted(machine.path("etc/systemd/system").glob("*.wants/mk2dbus@*.service"))
    kept = [machine.path(layout.STATE), machine.path(layout.OPTIONS)]
    kept = [path for path in kept if path.exists()]
    packaged = machine.packaged()
    if packaged:
        purge, enabled = False, []
        plan.notes.append(
            "the package of the distribution stays, with all that it uses: sudo apt remove mk2dbus"
        )
    elif purge:
        places += kept
    if not places:
        return plan
    if not purge and not packaged and kept:
        plan.notes.append(f"{' and '.join(map(str, kept))} stay; --purge removes them, with user and group")
    if machine.live:
        units = [f"mk2dbus@{adapter.instance(root)}.service" for adapter in _plugged(machine)]
        plan.steps.append(
            Run(("systemctl", "stop", INSTANCES, SLICE), ("systemctl", "start", *units) if units else None)
        )
        plan.steps.append(OnUndo(_reload(machine)))
    plan.steps += [Remove(path) for path in (*enabled, *places)]
    if machine.live:
        plan.steps += [Run(command) for command in _reload(machine)]
        plan.steps.append(Run(("systemctl", "reset-failed", INSTANCES), optional=True))
        if packaged:
            plan.steps += _start(machine, upgrade=False)
        elif machine.udev:
            plan.steps.append(Run(_GIVE_BACK, optional=True))
    if purge:
        plan.steps += _remove_accounts(machine, before)
    if before is not None and before.folders:
        plan.steps.append(RemoveFolders([machine.path(folder) for folder in before.folders]))
    return plan


def _places(machine: Machine) -> list[Path]:
    """What is there of an installation: files, program, command."""
    places = machine.ours()
    program, command = machine.path(layout.LOCAL_PROGRAM), machine.path(layout.LOCAL_COMMAND)
    if program.exists():
        places.append(program)
    if _is_our_link(command):
        places.append(command)
    return places


def _files(machine: Machine, before: Manifest | None, plan: Plan, force: bool) -> list[PutFile]:
    """The files that are missing or different."""
    due = []
    for file in layout.FILES:
        step = PutFile(machine.path(file.local), layout.local_content(file), file.what)
        if not step.due:
            continue
        if step.path.exists():
            _may_replace(machine, step.path, file, before, plan, force)
        due.append(step)
    for path in _others_about_our_names(machine):
        plan.notes.append(f"{path} also has rules for com.victronenergy.vebus: it may allow more than ours")
    return due


def _may_replace(
    machine: Machine, path: Path, file: layout.File, before: Manifest | None, plan: Plan, force: bool
) -> None:
    """Raises InstallError for a file that is not ours, or was changed by hand."""
    if not path.is_file():
        raise InstallError(f"{path} is in the way: it is no file")
    if before is None or file.local not in before.files:
        if path not in machine.ours() and not force:
            raise InstallError(f"{path} is there and not from mk2dbus; move it away, or use --force")
        plan.notes.append(f"{path} of an older version, or made by hand, is replaced")
    elif sha256(path.read_bytes()) != before.files[file.local] and not force:
        raise InstallError(f"{path} was changed by hand; --force replaces it")


def _program(machine: Machine, before: Manifest | None) -> tuple[PutFolder, str, bool]:
    """The step that copies the program, the digest of what it copies, and whether that is not there yet."""
    target = machine.path(layout.LOCAL_PROGRAM)
    make = partial(copy_program, at=f"/{layout.LOCAL_PROGRAM}", python=interpreter())
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "program"
        make(trial, compiled=False)
        wanted = digest(trial)
    is_new = before is None or before.program != wanted or not target.is_dir() or digest(target) != wanted
    return PutFolder(target, make, f"the program, version {__version__}"), wanted, is_new


def _missing_accounts(machine: Machine, before: Manifest | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """User and group that are made now, or were at an installation before."""
    users = () if machine.has_user() else (layout.USER,)
    groups = () if machine.has_group() else (layout.GROUP,)
    if before is not None:
        return users or before.users, groups or before.groups
    return users, groups


def _missing_folders(machine: Machine, before: Manifest | None) -> tuple[str, ...]:
    """Folders that are made now, or were at an installation before; the innermost first."""
    targets = [file.local for file in layout.FILES] + [layout.LOCAL_PROGRAM, layout.LOCAL_COMMAND]
    targets += [layout.STATE, layout.OPTIONS]
    folders = {str(folder) for target in targets for folder in Path(target).parents} - {"."}
    missing = {folder for folder in folders if not machine.path(folder).exists()}
    missing |= set(before.folders if before is not None else ())
    return tuple(sorted(missing, key=lambda folder: (-folder.count("/"), folder)))


def _accounts(machine: Machine, plan: Plan) -> list[Step]:
    """User, group and folders."""
    steps: list[Step] = []
    for tool, file in (("systemd-sysusers", layout.SYSUSERS), ("systemd-tmpfiles", layout.TMPFILES)):
        words = (tool, "--create") if file is layout.TMPFILES else (tool,)
        command = machine.tool(*words, Path(file.local).name)
        if command is None:
            plan.notes.append(f"{tool} is not here: {file.what} have to be made on the machine itself")
            continue
        steps.append(Run(command))
    undo = [] if machine.has_user() else _deletion(machine, (layout.USER,), ())
    undo += [] if machine.has_group() else _deletion(machine, (), (layout.GROUP,))
    folders = [machine.path(layout.STATE), machine.path(layout.OPTIONS)]
    return [OnUndo([step.command for step in undo], folders), *steps]


def _deletion(machine: Machine, users: tuple[str, ...], groups: tuple[str, ...]) -> list[Run]:
    """Delete accounts."""
    commands = [machine.tool("userdel", user) for user in users]
    commands += [machine.tool("groupdel", group) for group in groups]
    steps = [Run(command) for command in commands if command is not None]
    # userdel takes the user's group along where /etc/login.defs says so.
    rest = [machine.tool("groupdel", user) for user in users]
    return steps + [Run(command, optional=True) for command in rest if command is not None]


def _remove_accounts(machine: Machine, before: Manifest | None) -> list[Run]:
    """The accounts that the installer made; without its record, all that nobody else uses."""
    users = before.users if before is not None else (layout.USER,)
    unused = () if machine.members() else (layout.GROUP,)
    groups = before.groups if before is not None else unused
    return _deletion(
        machine,
        tuple(user for user in users if machine.has_user(user)),
        tuple(group for group in groups if machine.has_group(group)),
    )


def _plugged(machine: Machine) -> list[Adapter]:
    """The adapters for which udev starts the service."""
    return adapters(machine.root) if machine.udev else []


def _reload(machine: Machine) -> Sequence[Sequence[str]]:
    return _RELOAD + (_RELOAD_UDEV if machine.udev else ())


def _start(machine: Machine, upgrade: bool) -> list[Step]:
    """Let udev look again at the adapters that are plugged in, and start the service for each."""
    steps: list[Step] = []
    if upgrade:
        steps.append(Run(("systemctl", "try-restart", INSTANCES), optional=True))
    for adapter in _plugged(machine):
        steps.append(
            Run(("udevadm", "trigger", "--action=add", f"--name-match=/dev/{adapter.port}", "--settle"))
        )
        instance = adapter.instance(machine.root)
        # Whether it runs is looked at afterwards: an inverter that is off is no reason to take all back.
        steps.append(Run(("systemctl", "start", f"mk2dbus@{instance}.service"), optional=True))
    return steps


def _others_about_our_names(machine: Machine) -> list[Path]:
    """Other policy files that speak of our names."""
    ours = Path(layout.POLICY.local).name
    found = []
    for folder in ("etc/dbus-1/system.d", "usr/share/dbus-1/system.d"):
        found += [
            path
            for path in sorted(machine.path(folder).glob("*.conf"))
            if path.name != ours and b"com.victronenergy.vebus" in path.read_bytes()
        ]
    return found


def _is_our_link(path: Path) -> bool:
    return path.is_symlink() and str(path.readlink()) == f"/{layout.LOCAL_PROGRAM}/mk2dbus"
