#!/bin/sh
# medssl on a machine that has no network, out of this archive. Nothing is installed that is not what the checksums say.
#
#   ./install.sh FOLDER      an environment of its own in FOLDER, for the Python that `python-version` names (PYTHON: another place of it)
#   ./install.sh --images    the container images into this machine's Docker, where the archive has any
#
# Removal: delete FOLDER, or `docker image rm`. Nothing else is written.
set -eu
here=$(dirname "$(realpath "$0")")
what=${1:-}
case $what in
    '' | -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 2 ;;
    --images | /*) ;;
    *) what=$PWD/$what ;;
esac
fail() { echo "error: $*" >&2; exit 2; }

cd "$here"
sha256sum --check --quiet --strict SHA256SUMS || fail "the archive is damaged or incomplete. Copy it again; nothing was installed."

if [ "$what" = --images ]; then
    [ -e images.tar.zst ] || fail "this archive has no images."
    zstd -dc images.tar.zst | docker load
    exit
fi

version=$(cat python-version)
python=${PYTHON:-python$version}
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "there is no $python. Name it: PYTHON=/path/to/python$version $0 $1"
[ "$found" = "$version" ] || fail "the wheels here are for Python $version, $python is $found. Name another: PYTHON=/path/to/python$version $0 $1"
[ ! -e "$what" ] || fail "$what is there already. Remove it first, or name another folder."
"$python" -m venv "$what" || fail "$python has no venv. On Debian it is in the package python$version-venv."
"$what/bin/python" -m pip --isolated --disable-pip-version-check install --quiet --no-index --no-deps --require-hashes \
    --find-links wheels --requirement requirements.lock || fail "pip could not install what is here. $what is of no use."
"$what/bin/medssl" --version
echo "installed in $what. Now: $what/bin/medssl demo"
