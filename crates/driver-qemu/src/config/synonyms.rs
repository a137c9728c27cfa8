//! Other names of the fields of a machine's configuration: those of other tools, and likely
//! guesses.

/// Pairs of a written name and the intended field.
pub(super) const SYNONYMS: &[(&str, &str)] = &[
    ("memory", "mem"),
    ("memory_size", "mem"),
    ("ram", "mem"),
    ("cpus", "smp"),
    ("cores", "smp"),
    ("vcpus", "smp"),
    ("ncpus", "smp"),
    ("cpu_model", "cpu"),
    ("architecture", "arch"),
    ("machine", "arch"),
    ("user", "username"),
    ("login", "username"),
    ("pass", "password"),
    ("passwd", "password"),
    ("pwd", "password"),
    ("disk", "disk_size"),
    ("size", "disk_size"),
    ("root_size", "disk_size"),
    ("image", "default_partitions"),
    ("root", "default_partitions"),
    ("drive", "default_partitions"),
    ("partitions", "default_partitions"),
    ("ports", "hostfwd"),
    ("forward", "hostfwd"),
    ("forwards", "hostfwd"),
    ("port_forwards", "hostfwd"),
    ("network", "hostfwd"),
    ("isolated", "restrict"),
    ("accelerator", "accel"),
    ("kvm", "accel"),
    ("persist", "root_writes"),
    ("snapshot", "root_writes"),
    ("args", "extra_args"),
    ("arguments", "extra_args"),
    ("qemu_args", "extra_args"),
    ("qemu", "binary"),
    ("program", "binary"),
    ("path", "binary"),
    ("timeout", "timeouts"),
    ("launcher", "launcher_socket"),
    // In `hostfwd`.
    ("host", "hostaddr"),
    ("address", "hostaddr"),
    ("guest", "guestport"),
    ("port", "guestport"),
    ("proto", "protocol"),
    // In `timeouts`.
    ("boot", "start"),
    ("stop", "shutdown"),
    ("off", "shutdown"),
    // In `default_partitions`.
    ("disk_image", "root"),
    ("uefi", "OVMF_CODE.fd"),
    ("ovmf", "OVMF_CODE.fd"),
    ("firmware", "OVMF_CODE.fd"),
    // After those of `hostfwd`.
    ("host", "hostname"),
    ("name", "hostname"),
];

#[cfg(test)]
mod tests {
    use jumpstarter_driver_core::suggest::meant;

    use super::super::{HostForward, Partitions, QemuConfig, Timeouts};
    use super::SYNONYMS;

    fn fields<T: schemars::JsonSchema>() -> Vec<String> {
        let schema = serde_json::to_value(schemars::schema_for!(T)).unwrap();
        schema["properties"].as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn each_means_a_field_that_is_there() {
        let machine = fields::<QemuConfig>();
        let nested =
            [fields::<HostForward>(), fields::<Partitions>(), fields::<Timeouts>()].concat();
        for (written, field) in SYNONYMS {
            let is_field = |names: &[String]| names.iter().any(|name| name == field);
            assert!(is_field(&machine) || is_field(&nested), "{written}: there is no {field}");
            let shadows = is_field(&machine) && machine.iter().any(|name| name == written);
            assert!(!shadows, "{written} is a field itself");
        }
        let names = || machine.iter().map(String::as_str);
        for (written, field) in [
            ("memory", "mem"),
            ("ram", "mem"),
            ("cpus", "smp"),
            ("user", "username"),
            ("host", "hostname"),
            ("image", "default_partitions"),
        ] {
            assert_eq!(
                meant(written, names().collect::<Vec<_>>(), SYNONYMS),
                Some(field),
                "{written}"
            );
        }
    }
}
