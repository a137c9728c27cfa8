# The life of an ExporterSet's pod, in namespaces of its own: one lease. Arguments: the folder with
# the bundles, the test controller.
set -eu
work=$1 controller=$2
volume=$work/volume
# The runtime changes the owner of its streams: none may be a device.
: >"$work/empty"
exec <"$work/empty"
chmod 755 "$work"
chmod 777 "$volume" "$work/signals"
# crun wants one kind of control groups, and uses none.
mount -t cgroup2 none /sys/fs/cgroup

step() { echo "trial: $*"; }
fail() {
    echo "trial: $*" >&2
    tail -n 30 "$work"/*.log >&2
    exit 1
}
await() { # a description, then a command
    what=$1 tries=1200
    shift
    until "$@" >"$work/await" 2>&1; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ]; then fail "not in time: $what: $(cat "$work/await")"; fi
        sleep 0.1
    done
}
oci() { crun --root "$work/crun" --cgroup-manager=disabled "$@"; }
container() { oci run --bundle "$work/$1" "$1" >"$work/$1.log" 2>&1; }

"$controller" --exporter vm,board=vm --client me --files "$work/lab" --export "{
  qemu: {type: jumpstarter_driver_qemu.driver.Qemu, config: {
    arch: x86_64, smp: '1', mem: 64M, disk_size: 1M, launcher_socket: /shared/launcher.sock,
    default_partitions: {
      OVMF_CODE.fd: /usr/share/edk2/ovmf/OVMF_CODE.fd,
      OVMF_VARS.fd: /usr/share/edk2/ovmf/OVMF_VARS.fd},
    hostfwd: {ssh: {hostaddr: 127.0.0.1, hostport: 2222, guestport: 22}}}},
  ssh: {ref: qemu.ssh},
  tcp: {type: jumpstarter_driver_network.driver.TcpNetwork, config: {host: 127.0.0.1, port: 2222}}
}" >"$work/controller.log" 2>&1 &
await "the controller" grep -q '^ready' "$work/controller.log"
cat - "$work/lab/exporter-vm.yaml" >"$work/config/config.yaml" <<END
exitOnLeaseEnd: true
hooks: {beforeLease: {script: 'echo "the hook runs as \$(id -u), HOME is \${HOME-unset}"'}}
END
chmod 444 "$work/config/config.yaml" "$work"/lab/*
chmod 555 "$work/config"

container init || fail "the init container"
step "the init container has copied jumpstarter-exec"

container runtime &
runtime=$!
await "the launcher listens" test -S "$volume/launcher.sock"
await "its probe" oci exec runtime /shared/jumpstarter-exec exec --socket /shared/launcher.sock -- true
step "the sidecar serves; its probe succeeds"

container exporter &
exporter=$!
await "the exporter is registered" grep -q '^ready' "$work/exporter.log"
step "process 1 of the exporter: $(oci exec exporter cat /proc/1/cmdline | tr '\0' ' ')"
oci exec exporter grep -E '^(Uid|CapEff|NoNewPrivs)' /proc/1/status | sed 's/^/trial:   /'
oci exec exporter sh -c '! command -v qemu-img' || fail "the image has qemu-img"

container client &
client=$!
await "the machine runs" test -e "$work/signals/on"
qemu=$(pgrep qemu-system)
first=$(oci state runtime | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
of_runtime=$(readlink "/proc/$first/ns/pid")
test "$(readlink "/proc/$qemu/ns/pid")" = "$of_runtime" || fail "QEMU is not in the sidecar"
step "QEMU is a process of the sidecar"
touch "$work/signals/seen"
wait "$client" || fail "the client"
sed 's/^/trial:   /' "$work/client.log"

wait "$exporter" || fail "the exporter ended with $?"
step "the exporter has ended with 0 after its lease"
wait "$runtime" || fail "the sidecar ended with $?"
step "the sidecar has ended with 0"
test -z "$(pgrep qemu-system)" || fail "QEMU runs"
test "$(ls -A "$volume")" = jumpstarter-exec || fail "left on the volume: $(ls -A "$volume")"
step "nothing is left on the volume"
