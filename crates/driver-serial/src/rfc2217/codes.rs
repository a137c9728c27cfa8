//! The commands of RFC 2217. A server answers each with its code and [`ANSWER`].

use jumpstarter_driver_core::{SerialFlowControl, SerialParity};

/// What is added to a code in an answer.
pub(crate) const ANSWER: u8 = 100;

pub(crate) const SIGNATURE: u8 = 0;
pub(crate) const BAUD_RATE: u8 = 1;
pub(crate) const DATA_SIZE: u8 = 2;
pub(crate) const PARITY: u8 = 3;
pub(crate) const STOP_SIZE: u8 = 4;
pub(crate) const CONTROL: u8 = 5;
pub(crate) const SUSPEND: u8 = 8;
pub(crate) const RESUME: u8 = 9;
pub(crate) const LINE_STATE_MASK: u8 = 10;
pub(crate) const MODEM_STATE_MASK: u8 = 11;
pub(crate) const PURGE: u8 = 12;

/// Values of [`CONTROL`].
pub(crate) mod control {
    pub(crate) const FLOW_QUERY: u8 = 0;
    pub(crate) const FLOW_NONE: u8 = 1;
    pub(crate) const FLOW_SOFTWARE: u8 = 2;
    pub(crate) const FLOW_HARDWARE: u8 = 3;
    pub(crate) const BREAK_QUERY: u8 = 4;
    pub(crate) const BREAK_ON: u8 = 5;
    pub(crate) const BREAK_OFF: u8 = 6;
    pub(crate) const DTR_QUERY: u8 = 7;
    pub(crate) const DTR_ON: u8 = 8;
    pub(crate) const DTR_OFF: u8 = 9;
    pub(crate) const RTS_QUERY: u8 = 10;
    pub(crate) const RTS_ON: u8 = 11;
    pub(crate) const RTS_OFF: u8 = 12;
}

pub(crate) fn parity_code(parity: SerialParity) -> u8 {
    match parity {
        SerialParity::None => 1,
        SerialParity::Odd => 2,
        SerialParity::Even => 3,
    }
}

pub(crate) fn parity_of(code: u8) -> Option<SerialParity> {
    [SerialParity::None, SerialParity::Odd, SerialParity::Even]
        .into_iter()
        .find(|parity| parity_code(*parity) == code)
}

pub(crate) fn flow_code(flow: SerialFlowControl) -> u8 {
    match flow {
        SerialFlowControl::None => control::FLOW_NONE,
        SerialFlowControl::Software => control::FLOW_SOFTWARE,
        SerialFlowControl::Hardware => control::FLOW_HARDWARE,
    }
}

pub(crate) fn flow_of(code: u8) -> Option<SerialFlowControl> {
    [SerialFlowControl::None, SerialFlowControl::Software, SerialFlowControl::Hardware]
        .into_iter()
        .find(|flow| flow_code(*flow) == code)
}
