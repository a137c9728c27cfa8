//! The context id of a guest, for its child `ssh` over vsock.

use std::hash::{BuildHasher, RandomState};

use crate::host::HostFacts;

/// Lower addresses are the hypervisor's and the host's (vsock(7)).
const FIRST_GUEST_CID: u32 = 3;

/// A random address for a guest of this host, if vsock is usable. There is no registry of them:
/// QEMU refuses one that is in use.
pub(crate) fn choose_cid(facts: &HostFacts) -> Option<u32> {
    let random = RandomState::new().hash_one(std::process::id()) as u32;
    facts
        .vsock
        .is_usable()
        .then_some(FIRST_GUEST_CID + random % (i32::MAX as u32 - FIRST_GUEST_CID))
}
