#!/usr/bin/env bash
# One real Apache Kafka node on this machine, from its Maven artefacts: needs Java 17 and Maven.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: kafka.sh check             can a node run here? changes and fetches nothing
       kafka.sh install
       kafka.sh start  [--data DIR] [--port PORT] [--controller-port PORT] [--properties FILE]
       kafka.sh status [--data DIR]
       kafka.sh stop   [--data DIR]      SIGTERM, then SIGKILL after the deadline
       kafka.sh kill   [--data DIR]      SIGKILL at once, for fault tests

install  fetches the jars once; start does it too when they are missing.
start    runs the node in the background and prints its bootstrap address when it answers.
         The data, the log (kafka.log) and the pid file live in DIR. A second start with the
         same DIR keeps the data, and the ports unless others are given. The lines of a
         --properties FILE come last; in them @PORT@ and @CONTROLLER_PORT@ stand for the ports.

defaults: DIR ${XDG_STATE_HOME:-~/.local/state}/detector/kafka, port 9092, controller port = port + 1
environment: JAVA_HOME              the Java to use
             KAFKA_SH_CACHE         where the jars go (${XDG_CACHE_HOME:-~/.cache}/detector/kafka)
             KAFKA_SH_HEAP          the JVM heap (512m)
             KAFKA_SH_START_S       deadline of start in seconds (90)
             KAFKA_SH_STOP_S        deadline of stop before SIGKILL (30)
exit codes: 0 done, 1 failed, 3 not running (status), 64 usage, 69 java or mvn missing or too old
USAGE
}

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cache=${KAFKA_SH_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/detector/kafka}
heap=${KAFKA_SH_HEAP:-512m}
start_s=${KAFKA_SH_START_S:-90}
stop_s=${KAFKA_SH_STOP_S:-30}
java=java
[[ -z ${JAVA_HOME:-} ]] || java=$JAVA_HOME/bin/java
# A changed pom.xml gets a folder of its own, so an old cache is never taken for a new one.
jars=$cache/jars-$(cksum <"$here/pom.xml" | cut -d ' ' -f 1)

main() {
    local command=${1:-}
    [[ $# -eq 0 ]] || shift
    data=${XDG_STATE_HOME:-$HOME/.local/state}/detector/kafka
    port='' controller_port='' properties=''
    case $command in
    check | install | start | stop | kill | status) ;;
    -h | --help | help)
        usage
        return 0
        ;;
    *)
        usage >&2
        return 64
        ;;
    esac
    while [[ $# -gt 0 ]]; do
        case $command:$1 in
        check:* | install:*) fail 64 "$command takes no argument '$1'" ;;
        *:--data)
            data=${2:-}
            [[ -n $data ]] || fail 64 '--data needs a folder'
            ;;
        start:--port) port=$(port_number "$@") ;;
        start:--properties)
            properties=${2:-}
            [[ -r $properties ]] || fail 64 "--properties needs a file, not '$properties'"
            ;;
        start:--controller-port) controller_port=$(port_number "$@") ;;
        *) fail 64 "$command: unknown argument '$1' (try: kafka.sh help)" ;;
        esac
        shift 2
    done
    if [[ $command != check && $command != install ]]; then
        mkdir -p -- "$data" || fail 1 "cannot create the data folder $data"
        data=$(cd -- "$data" && pwd -P)
        config=$data/server.properties pid_file=$data/kafka.pid log=$data/kafka.log
    fi
    case $command in
    kill) kill_now ;; # the name belongs to the shell
    *) "$command" ;;
    esac
}

check() {
    require_java
    [[ -d $jars ]] || command -v mvn >/dev/null ||
        fail 69 'mvn not found: install Maven 3 (Debian: apt install maven)'
}

install() {
    check
    [[ ! -d $jars ]] || return 0
    mkdir -p -- "$cache" || fail 1 "cannot create the cache folder $cache"
    # Copied beside and renamed: an interrupted or a concurrent install leaves no half folder.
    partial=$(mktemp -d "$cache/partial.XXXXXX")
    trap 'rm -rf -- "$partial"' EXIT
    local attempt
    for attempt in 1 2 3; do
        if mvn -B -q -U -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
            -DoutputDirectory="$partial/jars" >"$partial/mvn.log" 2>&1; then
            mv -T -- "$partial/jars" "$jars" 2>/dev/null || [[ -d $jars ]] ||
                fail 1 "cannot move the jars to $jars"
            return 0
        fi
        say "attempt $attempt of 3 to fetch Apache Kafka failed: $(mvn_error "$partial/mvn.log")"
        [[ $attempt -eq 3 ]] || sleep $((attempt * 2))
    done
    fail 1 'cannot fetch Apache Kafka: check the network and the Maven settings'
}

start() {
    install
    exec 9>"$data/start.lock"
    flock -n 9 || fail 1 "another start is under way in $data"

    port=${port:-$(recorded_port PLAINTEXT 9092)}
    local running
    if running=$(running_pid); then
        [[ $port == "$(recorded_port PLAINTEXT '')" ]] ||
            fail 1 "already running on another port (pid $running, $(address)): stop it first"
        say "already running (pid $running)"
        address
        return 0
    fi
    # With a new --port the controller moves along; without one it stays where it was.
    if [[ -z $controller_port ]]; then
        controller_port=$((port + 1))
        [[ $port != "$(recorded_port PLAINTEXT '')" ]] || controller_port=$(recorded_port CONTROLLER "$controller_port")
    fi
    [[ $port != "$controller_port" ]] || fail 64 'the port and the controller port must differ'
    local taken
    for taken in "$port" "$controller_port"; do
        ! answers "$taken" || fail 1 "port $taken is in use: choose others with --port and --controller-port"
    done

    write_config
    if [[ ! -f $data/log/meta.properties ]]; then
        run_java kafka.tools.StorageTool format --cluster-id "$(new_cluster_id)" --config "$config" \
            >"$data/format.log" 2>&1 9>&- || fail 1 "cannot format the storage: $(tail -n 1 "$data/format.log")"
    fi

    local log_start=1 pid deadline
    [[ ! -f $log ]] || log_start=$(($(wc -c <"$log") + 1))
    # A session of its own: a Ctrl-C in the terminal is not for the broker.
    setsid "$java" -Xmx"$heap" -XX:+UseG1GC -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true \
        -Dlog4j2.configurationFile="$here/log4j2.properties" \
        -cp "$jars/*" kafka.Kafka "$config" >>"$log" 2>&1 </dev/null 9>&- &
    pid=$!
    disown "$pid" # no "Killed" message from the shell when the start fails
    echo "$pid" >"$pid_file.new"
    mv -- "$pid_file.new" "$pid_file"

    deadline=$((SECONDS + start_s))
    while ((SECONDS < deadline)); do
        if ! kill -0 "$pid" 2>/dev/null; then
            rm -f -- "$pid_file"
            fail 1 "the broker ended while starting: $(last_error "$log_start") (see $log)"
        fi
        if tail -c "+$log_start" "$log" | grep -q 'Kafka Server started' && answers "$port"; then
            address
            return 0
        fi
        sleep 0.1
    done
    end_process "$pid" KILL 5 || true
    rm -f -- "$pid_file"
    fail 1 "the broker did not answer on port $port within $start_s s: $(last_error "$log_start") (see $log)"
}

stop() {
    local pid
    if ! pid=$(running_pid); then
        rm -f -- "$pid_file"
        say 'not running'
        return 0
    fi
    if ! end_process "$pid" TERM "$stop_s"; then
        say "no clean end within $stop_s s, sending SIGKILL (pid $pid)"
        end_process "$pid" KILL 10 || fail 1 "process $pid survives SIGKILL"
    fi
    rm -f -- "$pid_file"
}

kill_now() {
    local pid
    pid=$(running_pid) || fail 1 "not running in $data"
    end_process "$pid" KILL 10 || fail 1 "process $pid survives SIGKILL"
    rm -f -- "$pid_file"
}

status() {
    local pid
    if ! pid=$(running_pid); then
        echo "not running in $data"
        return 3
    fi
    if answers "$(recorded_port PLAINTEXT 9092)"; then
        echo "running (pid $pid) at $(address)"
    else
        echo "running (pid $pid), no answer at $(address)"
        return 1
    fi
}

# --- the process ---------------------------------------------------------------------------------

running_pid() { # prints the pid if the process in the pid file is this broker, not a later namesake
    local pid
    [[ -f $pid_file ]] && pid=$(<"$pid_file") && [[ $pid =~ ^[0-9]+$ ]] || return 1
    [[ -r /proc/$pid/cmdline ]] || return 1
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -Fxq -- "$config" || return 1
    echo "$pid"
}

end_process() { # pid signal deadline_s: true when the process is gone in time
    local pid=$1 deadline=$((SECONDS + $3))
    kill -s "$2" "$pid" 2>/dev/null || true
    # A dead process whose parent has not yet reaped it has an empty command line.
    while running_pid >/dev/null; do
        ((SECONDS < deadline)) || return 1
        sleep 0.05
    done
}

run_java() {
    "$java" -Xmx256m -Dlog4j2.configurationFile="$here/log4j2.properties" -cp "$jars/*" "$@"
}

require_java() {
    command -v "$java" >/dev/null || fail 69 'java not found: install Java 17 or newer (Debian: apt install openjdk-17-jre-headless)'
    local version major
    version=$("$java" -version 2>&1 | sed -n 's/.* version "\([^"]*\)".*/\1/p' | head -n 1)
    major=${version%%[.-]*}
    [[ $major =~ ^[0-9]+$ ]] || fail 69 "cannot read the version of $java: Java 17 or newer is needed"
    ((major >= 17)) || fail 69 "Java 17 or newer is needed, $java is $version"
}

# --- the configuration ---------------------------------------------------------------------------

write_config() {
    {
        cat "$here/server.properties"
        echo
        echo '# Written by kafka.sh at each start.'
        echo "controller.quorum.voters=1@127.0.0.1:$controller_port"
        echo "listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller_port"
        echo "advertised.listeners=PLAINTEXT://127.0.0.1:$port"
        echo "log.dirs=$data/log"
        [[ -z $properties ]] ||
            sed -e "s/@PORT@/$port/g" -e "s/@CONTROLLER_PORT@/$controller_port/g" -- "$properties"
    } >"$config.new"
    mv -- "$config.new" "$config"
}

recorded_port() { # listener default: the port of the last start in this data folder
    local found=''
    [[ ! -f $config ]] || found=$(sed -n "s|^listeners=.*$1://127.0.0.1:\([0-9]*\).*|\1|p" "$config" | tail -n 1)
    echo "${found:-$2}"
}

address() { echo "127.0.0.1:$(recorded_port PLAINTEXT 9092)"; }

new_cluster_id() { # 16 random bytes in URL-safe base64; a leading dash would read as an option
    head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n' | sed 's/^-/A/'
}

port_number() { # --option value
    [[ ${2:-} =~ ^[1-9][0-9]{0,4}$ ]] && (($2 <= 65535)) || fail 64 "$1 needs a port number, not '${2:-}'"
    echo "$2"
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

mvn_error() { # log: its first error, without colours and without the advice after it
    sed -e 's/\x1b\[[0-9;]*m//g' "$1" | sed -n 's/^\[ERROR\] \(.*\)/\1/p' | head -n 1 | sed 's/ -> \[Help.*//'
}

last_error() { # first byte of this start in the log
    tail -c "+$1" "$log" | grep -E 'ERROR|FATAL|Exception|Error' | tail -n 1 || echo 'no message'
}

say() { echo "kafka.sh: $*" >&2; }

fail() { # exit_code message
    local code=$1
    shift
    say "$@"
    exit "$code"
}

main "$@"
