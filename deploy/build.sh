#!/usr/bin/env bash
# Builds the static binaries and, with podman, the images around them. Pulls no image. Prints the sizes.
set -euo pipefail

usage() {
    cat <<'END'
usage: deploy/build.sh [--binaries DIR] [--no-images]

  --binaries DIR  take podgate and podgate-init from DIR instead of compiling them
  --no-images     stop after the binaries (no podman needed)

environment:
  TARGET             the target to compile for     (default: the host's)
  IMAGE_PREFIX       before the images' names      (default: localhost/)
  VERSION            the images' tag               (default: the workspace's version)
  SOURCE_DATE_EPOCH  the images' creation time     (default: that of the last commit)
  CARGO_TARGET_DIR   where cargo builds            (default: target)
END
}

die() {
    echo "build.sh: $*" >&2
    exit 1
}

binaries=
images=yes
while (($#)); do
    case $1 in
        --binaries) [[ -d ${2-} ]] || die "--binaries needs a directory"; binaries=$2; shift 2 ;;
        --no-images) images=no; shift ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done
[[ -z $binaries ]] || binaries=$(realpath "$binaries")

cd "$(dirname "${BASH_SOURCE[0]}")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [[ -z $binaries ]]; then
    target=${TARGET:-$(rustc -vV | sed -n 's/^host: //p')}
    target_dir=${CARGO_TARGET_DIR:-$PWD/target}
    # An explicit target keeps crt-static away from build scripts and procedural macros, which have to stay dynamic.
    # One package an invocation: built together, the init binary would take over the gateway's features.
    compile() {
        local profile=$1 package=$2
        RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --target "$target" --target-dir "$target_dir" \
            --profile "$profile" -p "$package"
        cp "$target_dir/$target/$profile/$package" "$work/$package"
    }
    compile dist podgate
    compile dist-init podgate-init
else
    cp "$binaries/podgate" "$binaries/podgate-init" "$work/"
fi

# In an image from scratch there is no loader: a binary that asks for one would not start.
for binary in podgate podgate-init; do
    headers=$(readelf --program-headers --wide "$work/$binary") || die "$binary is not an ELF binary"
    [[ $headers != *INTERP* ]] || die "$binary is not static"
done

mib() { awk -v bytes="$1" 'BEGIN { printf "%.2f MiB", bytes / 1048576 }'; }
row() { printf '%-44s %12s %12s\n' "$@"; }
report() { # what, command that writes it
    local what=$1
    shift
    "$@" >"$work/measured"
    row "$what" "$(mib "$(wc -c <"$work/measured")")" "$(mib "$(gzip -9 -c "$work/measured" | wc -c)")"
}

built=()
if [[ $images == yes ]]; then
    command -v podman >/dev/null || die "podman is missing (Debian: apt-get install podman); --no-images does without"
    prefix=${IMAGE_PREFIX-localhost/}
    version=${VERSION:-$(sed -n '/^\[workspace\.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)}
    revision=$(git rev-parse --verify --quiet HEAD || echo unknown)
    [[ -z $(git status --porcelain 2>/dev/null) ]] || revision+=-modified
    epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
    image() { # name, Containerfile, context
        podman build --quiet --pull=never --layers=false --format oci --timestamp "$epoch" \
            --build-arg VERSION="$version" --build-arg REVISION="$revision" \
            --tag "$prefix$1:$version" --file "$2" "$3" >/dev/null
        built+=("$prefix$1:$version")
    }
    mkdir -p "$work/gateway/empty" "$work/init"
    cp LICENSE "$work/podgate" "$work/gateway/"
    cp LICENSE "$work/podgate-init" "$work/init/"
    image podgate deploy/images/gateway.Containerfile "$work/gateway"
    image podgate-init deploy/images/init.Containerfile "$work/init"
fi

row "" raw gzip
for binary in podgate podgate-init; do
    report "$binary" cat "$work/$binary"
done
for name in "${built[@]}"; do
    report "$name" podman save --quiet --format docker-archive "$name"
done
