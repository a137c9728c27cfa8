# Runs an image as the pod of an ExporterSet does, in namespaces of its own. Arguments: the archive,
# an empty folder. The shared volume is /mnt, which every host has.
set -eu
archive=$1 work=$2
root=$work/root layout=$work/layout volume=$work/volume config=$work/config
mount -t tmpfs none "$work"
mkdir "$root" "$layout" "$volume" "$config"
chmod 755 "$work"
chmod 777 "$volume"

step() { echo "trial: $*"; }
await() { # a description, then a command
    what=$1 tries=300
    shift
    until "$@" >"$work/await" 2>&1; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ]; then
            echo "trial: not in time: $what" >&2
            cat "$work"/*.log "$work/await" >&2
            exit 1
        fi
        sleep 0.1
    done
}

tar -C "$layout" -xf "$archive"
for blob in "$layout"/blobs/sha256/*; do
    if gzip -t "$blob" 2>/dev/null; then tar -C "$root" -xzf "$blob"; fi
done
mount --bind "$root" "$root"
mount --bind "$volume" "$root/mnt" 2>/dev/null || {
    mkdir "$root/mnt"
    mount --bind "$volume" "$root/mnt"
}
mount --bind "$volume" /mnt

cat >"$config/config.yaml" <<END
apiVersion: jumpstarter.dev/v1alpha1
kind: ExporterConfig
metadata:
  namespace: lab
  name: trial
exitOnLeaseEnd: true
export:
  qemu:
    type: jumpstarter_driver_qemu.driver.Qemu
    config:
      arch: x86_64
      smp: "1"
      mem: 64M
      launcher_socket: /mnt/launcher.sock
      default_partitions:
        OVMF_CODE.fd: /usr/share/edk2/ovmf/OVMF_CODE.fd
        OVMF_VARS.fd: /usr/share/edk2/ovmf/OVMF_VARS.fd
      hostfwd:
        ssh: {hostaddr: 127.0.0.1, hostport: 2222, guestport: 22}
  tcp:
    type: jumpstarter_driver_network.driver.TcpNetwork
    config: {host: 127.0.0.1, port: 2222}
hooks:
  beforeLease:
    script: |
      id -u > /mnt/hook
      wget --help >> /mnt/hook 2>&1
END
chmod 444 "$config/config.yaml"
chmod 555 "$config"
mount --bind -o ro "$config" "$root/etc/jumpstarter/exporters"
mount -t proc none "$root/proc"
mount -t tmpfs none "$root/tmp"
for device in null zero full random urandom; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mount -o remount,bind,ro "$root"

# The user of the pod, without rights, without HOME.
chroot=$(command -v chroot)
as_pod() {
    env -i PATH=/jumpstarter/bin:/bin JUMPSTARTER_LAUNCHER_SOCKET=/mnt/launcher.sock \
        "$chroot" --userspec=65532:65532 "$root" "$@"
}

step "the init container copies jumpstarter-exec"
as_pod cp /jumpstarter/bin/jumpstarter-exec /mnt/jumpstarter-exec

step "the sidecar serves"
/mnt/jumpstarter-exec serve --socket /mnt/launcher.sock 2>"$work/sidecar.log" &
await "the launcher listens" test -S /mnt/launcher.sock

step "the exporter is process 1 of its container"
unshare --pid --fork --kill-child --mount-proc="$root/proc" \
    env -i PATH=/jumpstarter/bin:/bin JUMPSTARTER_LAUNCHER_SOCKET=/mnt/launcher.sock \
    "$chroot" --userspec=65532:65532 "$root" jmp run --tls-grpc-listener 127.0.0.1:18443 \
    --tls-grpc-insecure --exporter-config /etc/jumpstarter/exporters/config.yaml \
    >"$work/exporter.log" 2>&1 &
exporter=$!
client() {
    as_pod jmp shell --tls-grpc 127.0.0.1:18443 --tls-grpc-insecure -- j "$@"
}
await "a call is served" client qemu power on
step "a machine runs in the sidecar: $(pgrep -c qemu-system)"
await "its state is reported" client qemu state
cat "$work/await"
test "$(head -1 "$volume/hook")" = 65532
step "a hook has run, as $(head -1 "$volume/hook")"
child=$(pgrep -P "$exporter" jmp)
grep -q '^NSpid:.*[[:space:]]1$' "/proc/$child/status"
kill -TERM "$child"
wait "$exporter"
step "the exporter has ended with 0"
await "QEMU has ended" sh -c '! pgrep qemu-system'
as_pod jumpstarter-exec shutdown --socket /mnt/launcher.sock
step "nothing is left: $(ls "$volume")"
