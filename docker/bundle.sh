#!/bin/bash
# Everything for a machine without a network, in one archive: wheels by hash, container images, presets, templates, the documentation as a site.
#
#   docker/bundle.sh ARCHIVE.tar      (`make bundle`: dist/medssl-bundle.tar)
#
# PYTHON   the Python it is for (default: python3), 3.11 to 3.13; the target machine needs the same version, and the same kind of processor
# TAG      the tag of the images medssl, medssl-mlflow and medssl-database (default: latest); what Docker here does not have stays out
#
# On the other machine: tar xf ARCHIVE.tar && medssl-bundle/install.sh FOLDER. What is in it and what to do: docs/how_to/gpu_server.md
set -euo pipefail

archive=$(realpath -m "${1:?usage: docker/bundle.sh ARCHIVE.tar}")
root=$(dirname "$(dirname "$(realpath "$0")")")
python=${PYTHON:-python3}
work=$(mktemp -d "${TMPDIR:-/tmp}/medssl-bundle.XXXXXX")
trap 'rm -rf "$work"' EXIT
bundle=$work/medssl-bundle
mkdir -p "$bundle" "$(dirname "$archive")"
cd "$root"

"$python" -m venv "$work/tools"
tools=$work/tools/bin/python
pip() { "$tools" -m pip --disable-pip-version-check "$@"; }

"$tools" docker/wheels.py "$bundle/wheels" .
"$tools" docker/wheels.py "$work/build" hatchling mkdocs-material
pip install --quiet --no-index --no-deps --require-hashes --find-links "$work/build" -r "$work/build/requirements.lock"
pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir "$bundle/wheels" .
mv "$bundle/wheels/requirements.lock" "$bundle/requirements.lock"
for wheel in "$bundle"/wheels/medssl-*.whl; do
    version=$(basename "$wheel" | cut -d- -f2)
    echo "medssl==$version --hash=sha256:$(sha256sum "$wheel" | cut -d' ' -f1)" >>"$bundle/requirements.lock"
done
"$tools" -c 'import sys; print("%d.%d" % sys.version_info[:2])' >"$bundle/python-version"

NO_MKDOCS_2_WARNING=1 "$tools" -m mkdocs build --quiet --strict --site-dir "$bundle/docs"
cp -r configs "$bundle/presets"
mkdir "$bundle/docker"
cp -r docker/compose.yaml docker/compose.gpu.yaml docker/tracking.sh docker/slurm docker/kubernetes docker/apptainer "$bundle/docker/"
cp docker/bundle/install.sh LICENSE "$bundle/"

images=()
for name in medssl medssl-mlflow medssl-database; do
    if command -v docker >/dev/null && docker image inspect "$name:${TAG:-latest}" >/dev/null 2>&1; then images+=("$name:${TAG:-latest}"); fi
done
if [ ${#images[@]} -gt 0 ]; then docker save "${images[@]}" | zstd -q -3 -T0 -o "$bundle/images.tar.zst"; fi
echo "images: ${images[*]:-none}"

(cd "$bundle" && find . -type f ! -name SHA256SUMS -printf '%P\0' | sort -z | xargs -0 sha256sum >"$work/sums" && mv "$work/sums" SHA256SUMS)
tar --create --file="$archive.part" --directory="$work" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner medssl-bundle
mv "$archive.part" "$archive"
(cd "$(dirname "$archive")" && sha256sum "$(basename "$archive")" | tee "$archive.sha256")
du -h "$archive"
