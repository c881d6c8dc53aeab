#!/usr/bin/env bash
# Prepares what the end-to-end test needs, under .cache/e2e of the repository: redis-server, HAProxy, a Sail
# server, Apache Spark Connect, PySpark clients of five ages, and the JVM client. Idempotent: a part
# whose stamp is fresh is left alone, so a second run takes under a second.
#
#   cmd/sconce/e2e/setup.sh          prepare everything
#
# SCONCE_PYTHON names the Python to use (3.11 or 3.12; without it python3.11, python3 and
# python3.12 are tried in this order).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
cache=$root/.cache/e2e
logs=$cache/logs
mkdir -p "$cache/bin" "$cache/venv" "$logs"

say() { printf 'e2e set-up: %s\n' "$*"; }
die() { printf 'e2e set-up: %s\n' "$*" >&2; exit 1; }

# stamp FILE... : what a part was made from; a change of it makes the part again.
stamp() { { cat "$@"; echo "${python_version:-} $root"; } | sha256sum | cut -d' ' -f1; }
fresh() { [[ -f $1 && $(<"$1") == "$2" ]]; }

find_python() {
  local candidate
  for candidate in ${SCONCE_PYTHON:-python3.11 python3 python3.12}; do
    python_version=$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
    case $python_version in
      3.11 | 3.12) python=$candidate; return ;;
    esac
  done
  die "Python 3.11 or 3.12 is needed (PySpark 3.5 has no wheels for newer ones): install python3.11 with its venv module, or set SCONCE_PYTHON."
}

# java_tools puts a JDK and Maven on PATH: by apt as root, or says what is missing.
java_tools() {
  local tool version missing=
  for tool in java javac mvn; do command -v "$tool" >/dev/null || missing="$missing $tool"; done
  if [[ -n $missing ]] && ((EUID == 0)) && command -v apt-get >/dev/null; then
    say "installing a JDK and Maven, for$missing"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends openjdk-17-jdk-headless maven; } \
      >"$logs/java.log" 2>&1 || say "apt-get failed, see $logs/java.log"
  fi
  for tool in java javac mvn; do
    command -v "$tool" >/dev/null ||
      die "$tool is missing: install a JDK 17 and Maven (Debian: apt-get install openjdk-17-jdk-headless maven)."
  done
  version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
  ((${version:-0} >= 17)) || die "Java 17 or newer is needed, java -version says ${version:-nothing}."
}

# debian PROGRAM PATH PACKAGE...: puts a program of Debian on PATH or into the cache: by apt as
# root, or unpacked without it. PATH is where the first package has it, the others are what it needs.
debian() {
  local program=$1 path=$2 package
  shift 2
  if command -v "$program" >/dev/null || [[ -x $cache/bin/$program ]]; then return; fi
  command -v apt-get >/dev/null || die "$program is missing: install it."
  if ((EUID == 0)); then
    say "installing $1"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1"; } \
      >"$logs/$program.log" 2>&1 && return
  fi
  say "unpacking $1 into $cache"
  local unpacked=$cache/$program
  mkdir -p "$unpacked"
  (cd "$unpacked" && apt-get download "$@" && for package in *.deb; do dpkg -x "$package" .; done) >>"$logs/$program.log" 2>&1 ||
    die "$program could not be had (see $logs/$program.log): install it."
  cat >"$cache/bin/$program" <<WRAPPER
#!/bin/sh
LD_LIBRARY_PATH=$(echo "$unpacked"/usr/lib/*-linux-gnu) exec "$unpacked/$path" "\$@"
WRAPPER
  chmod +x "$cache/bin/$program"
}

# venv NAME: the virtual environment of requirements/NAME.txt. Only the engine needs Spark's jars.
venv() {
  local name=$1 wanted begun=$SECONDS
  local home=$cache/venv/$name list=$here/requirements/$name.txt
  wanted=$(stamp "$list")
  fresh "$home/.stamp" "$wanted" && return
  say "$name: installing $(grep -m1 -o '^pys[^#]*' "$list") …"
  rm -rf "$home"
  { "$python" -m venv "$home" && "$home/bin/python" -m pip install --disable-pip-version-check -r "$list"; } \
    >"$logs/$name.log" 2>&1 || { tail -n 15 "$logs/$name.log" >&2; die "$name could not be installed (all of it: $logs/$name.log)."; }
  [[ $name == spark ]] || rm -rf "$home"/lib/python*/site-packages/pyspark/jars
  echo "$wanted" >"$home/.stamp"
  say "$name: ready after $((SECONDS - begun)) s"
}

# jvm: the class path of the JVM client and the compiled driver.
jvm() {
  local home=$cache/jvm wanted begun=$SECONDS
  wanted=$(stamp "$here/jvm/pom.xml" "$here/jvm/Driver.java")
  fresh "$home/.stamp" "$wanted" && return
  say "jvm: resolving the Spark Connect client with Maven …"
  rm -rf "$home" && mkdir -p "$home/classes"
  { mvn -B -q -f "$here/jvm/pom.xml" -Dmaven.repo.local="$cache/m2" \
      dependency:build-classpath -Dmdep.outputFile="$home/classpath" &&
    javac -d "$home/classes" -cp "$(<"$home/classpath")" "$here/jvm/Driver.java"; } \
    >"$logs/jvm.log" 2>&1 || { tail -n 15 "$logs/jvm.log" >&2; die "the JVM client could not be made (all of it: $logs/jvm.log)."; }
  echo "$wanted" >"$home/.stamp"
  say "jvm: ready after $((SECONDS - begun)) s"
}

# all FUNCTION ARGUMENT...: the function once for each argument, two at a time, all or nothing.
all() {
  local make=$1 pids=() pid
  shift
  (for name in "${@:1:$#/2}"; do "$make" "$name"; done) & pids+=($!)
  (for name in "${@:$#/2+1}"; do "$make" "$name"; done) & pids+=($!)
  for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
  ((${failed:-0} == 0)) || die "not ready, see above."
}

exec 9>"$cache/lock"
flock 9 # two set-ups at once would share half-made environments
find_python
java_tools
debian redis-server usr/bin/redis-server \
  redis-server redis-tools libjemalloc2 liblua5.1-0 liblzf1 lua-cjson lua-bitop libatomic1
debian haproxy usr/sbin/haproxy haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1
all venv spark py40 sail py35 py34
jvm
say "ready in $cache"
