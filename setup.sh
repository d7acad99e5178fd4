# shellcheck shell=bash
# Finds or makes the Python environment. Sourced, in the project's root, by run.sh, test.sh and
# tests/with_paddle_2_6.sh, under their `set -euo pipefail`:
#
#   prepare PURPOSE [requirements file …]     sets $python; PURPOSE (run, test) names the stamp
#
# A Paddle that can be imported is used and never replaced. If all else is there too, that Python is taken as it is.
# Otherwise .venv is made: on top of the Python that has Paddle, or with a Paddle of its own.
# Nothing outside the project is changed, and an environment that was not made here is never removed.
#
# What lies in .venv besides Python:
#   made-by            what it was made from, and that it was made here
#   unfinished         there while it is being made or filled; found by a later start, it means that this was killed
#   ready-for-PURPOSE  written last: all that the decision hung on; while it holds, a start is instant

venv=.venv
own_paddle=             # a package: install this Paddle, whatever can be imported (tests/with_paddle_2_6.sh)

say() { printf '%s\n' "$*" >&2; }
fail() { say "$1"; exit "${2:-1}"; }

prepare() {
    local purpose=$1 facts; shift
    local -a pythons
    find_pythons
    facts=$(printf '%s\n' "$PWD" "$own_paddle" "${pythons[@]}" "$(paddle_in_sight || gpus)"; cat requirements*.txt)
    python=$PWD/$venv/bin/python
    if ready; then return; fi

    local version prefix base paddle
    local -a packages
    choose "$@"
    if [[ -n $paddle ]] && has_all requirements.txt "$@"; then
        python=$base
        return
    fi
    (
        # Two starts at once: the second waits, then finds everything done. Where there are no locks, go on without.
        if command -v flock >/dev/null; then
            flock -n 9 || { say "Another start is setting up $venv; waiting for it."; flock 9; } || true
        fi
        ready || build
    ) 9>"$venv.lock"
}

ready() {
    [[ -x $python && ! -e $venv/unfinished && -e $venv/ready-for-$purpose ]] &&
        [[ $(<"$venv/ready-for-$purpose") == "$facts" ]]
}

# Fills $pythons with a line `version|prefix|executable|file of its paddle` for each Python 3.10 to 3.12.
# Every match on the PATH is tried, since a pyenv shim may come first and not run.
find_pythons() {
    local path version prefix executable paddle found='' seen='|'
    local -a names=("$PWD/$venv/bin/python" python3 python3.12 python3.11 python3.10 python)
    if [[ -n ${PYTHON:-} ]]; then names=("$PYTHON"); fi
    local probe='
import sys
sys.stdout.write("%d.%d.%d|%s|%s|" % (sys.version_info[:3] + (sys.prefix, sys.executable)))
from importlib.util import find_spec
spec = find_spec("paddle")
print(spec and spec.origin or "")'
    pythons=()
    while read -r path; do
        IFS='|' read -r version prefix executable paddle < <("$path" -c "$probe" </dev/null 2>/dev/null) || true
        [[ -n $version && $seen != *"|$version $prefix|"* ]] || continue
        seen+="$version $prefix|"
        # Our own .venv, activated, is a result and not a source.
        [[ ! ( $prefix -ef $venv && -e $venv/made-by ) ]] || continue
        found+="${found:+, }$version ($path)"
        case $version in
            3.10.* | 3.11.* | 3.12.*) pythons+=("$version|$prefix|$executable|$paddle") ;;
        esac
    done < <(type -aP "${names[@]}")
    [[ ${#pythons[@]} -gt 0 ]] ||
        fail "Python 3.10, 3.11 or 3.12 is wanted${PYTHON:+ (PYTHON=$PYTHON)}, found: ${found:-none}" 2
}

# A GPU decides what is installed only where there is no Paddle yet; elsewhere asking for it would cost time.
gpus() { if nvidia-smi -L 2>/dev/null | grep -q '^GPU '; then echo GPU; fi; }
paddle_in_sight() { [[ $(printf '%s\n' "${pythons[@]}") == *paddle/__init__.py* ]]; }

# Sets $version, $prefix and $base (the Python), $paddle (what it imports, or nothing) and $packages (for pip).
choose() {
    local line origin file
    paddle=
    for line in "${pythons[@]}"; do
        IFS='|' read -r version prefix base origin <<<"$line"
        [[ -n $origin && -z $own_paddle ]] || continue
        if paddle=$(import_paddle "$base"); then break; fi
        say "$origin is left alone, it cannot be imported: ${paddle##*$'\n'}"
        paddle=
    done
    if [[ -n $own_paddle ]]; then
        packages=("$own_paddle" -r requirements.txt)
    elif [[ -n $paddle ]]; then
        packages=(-r requirements.txt)
    elif [[ -n $(gpus) ]]; then
        packages=(-r requirements-gpu.txt)
    else
        packages=(-r requirements-cpu.txt)
    fi
    [[ -n $paddle ]] || IFS='|' read -r version prefix base origin <<<"${pythons[0]}"
    for file; do packages+=(-r "$file"); done
}

# Prints version and file of the Paddle that $1 imports; where it fails, the error instead.
import_paddle() {
    local out
    if out=$("$1" -c 'import paddle; print("\n" + paddle.__version__, paddle.__file__)' 2>/dev/null </dev/null); then
        printf '%s\n' "${out##*$'\n'}"
    else
        "$1" -c 'import paddle' 2>&1 >/dev/null </dev/null | tail -n 1
        return 1
    fi
}

# Does $base have what these requirements files ask for?
has_all() {
    "$base" - "$@" 2>/dev/null <<'EOF'
import sys
from importlib.metadata import version
from packaging.requirements import Requirement      # comes with visualdl: without it, not all is there

for file in sys.argv[1:]:
    for line in open(file, encoding="utf-8"):
        line = line.partition("#")[0].strip()
        if line and not Requirement(line).specifier.contains(version(Requirement(line).name), prereleases=True):
            sys.exit(1)
EOF
}

# Brings $venv to $packages; the caller holds the lock.
build() {
    local maker="$PWD $base $version ${paddle:-${packages[*]:0:2}}" log=$venv/pip.log now
    if [[ $prefix -ef $venv ]]; then
        :       # the user's own .venv: filled up, never made anew
    elif [[ -e $venv/bin && ! -e $venv/made-by ]]; then
        fail "$PWD/$venv is not what is needed and was not made by this script: move it away." 2
    elif [[ -e $venv/unfinished || ! -x $python || $(<"$venv/made-by") != "$maker" ]]; then
        say "Making $venv with Python $version ($base)${paddle:+ and its Paddle ${paddle%% *}} …"
        mkdir -p "$venv"
        : >"$venv/unfinished"
        printf '%s\n' "$maker" >"$venv/made-by"
        # Not `rm -rf "$venv"`: killed half-way, it could leave an environment without its two marks.
        find "$venv" -mindepth 1 ! -path "$venv/unfinished" ! -path "$venv/made-by" -delete
        create
    fi

    : >"$venv/unfinished"
    majors >"$venv/constraints.txt"
    say "Installing ${packages[*]} (log: $log) …"
    # Of the user's pip settings only `user` is overruled: it would install outside of the environment.
    if ! PIP_USER=0 "$python" -m pip install --no-input --progress-bar off -c "$venv/constraints.txt" \
        "${packages[@]}" >"$log" 2>&1; then
        # An environment that worked is kept, since pip undoes what it could not finish: there may be no network today.
        if compgen -G "$venv/ready-for-*" >/dev/null; then rm "$venv/unfinished"; fi
        tail -n 20 "$log" >&2
        fail "pip could not install ${packages[*]}; the whole log is $log"
    fi
    now=$(import_paddle "$python") || fail "Paddle was installed in $venv but cannot be imported: $now"
    [[ -z $paddle || $now == "$paddle" ]] || fail "pip put Paddle $now in the place of $paddle; stopped."
    printf '%s\n' "$facts" >"$venv/ready-for-$purpose"
    rm "$venv/unfinished"
    say "Ready: Python $version, Paddle ${now%% *}."
}

# For pip: a numpy or protobuf of another major version, in front of the one that $base has, could break the Paddle and
# all else there that was built for it.
majors() {
    [[ -z $paddle ]] || "$base" -c '
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

for name in ("numpy", "protobuf"):
    with suppress(PackageNotFoundError):
        print(name + "==" + version(name).partition(".")[0] + ".*")
'
}

# An empty environment in $venv that also sees the packages of $base, if it has Paddle.
create() {
    local log=$venv/pip.log packages_here
    # Debian's Python may lack ensurepip, without which venv brings no pip; then the outer pip brings it.
    if ! "$base" -m venv "$venv" >"$log" 2>&1; then
        { "$base" -m venv --without-pip "$venv" &&
            packages_here=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))') &&
            PIP_USER=0 "$base" -m pip install --no-input --target "$packages_here" pip; } >>"$log" 2>&1 ||
            fail "$base cannot make a virtual environment; install python${version%.*}-venv (its name on Debian)." 2
    fi
    if [[ -n $paddle ]]; then
        # venv's own --system-site-packages would show the packages of the system, not those of a $base that is
        # itself a virtual environment; and this keeps the order.
        "$base" -c '
import sys

for folder in sys.path:
    if folder.endswith("-packages"):
        print(f"import site; site.addsitedir({folder!a})")
' >"$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/parent.pth"
    fi
}
