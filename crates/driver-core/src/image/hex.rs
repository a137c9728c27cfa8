//! Hexadecimal digits. Handwritten: no library for them is linked.

/// The bytes in lower-case hexadecimal digits, as digests are written.
///
/// ```
/// assert_eq!(jumpstarter_driver_core::image::hex(&[0x0a, 0xff]), "0aff");
/// ```
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
