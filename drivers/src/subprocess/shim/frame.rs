//! The bytes of Prefect's attempt control session (3.8.8, protocol 2), without a socket.
//!
//! ```text
//! engine -> shim   <token>\n
//! engine -> shim   00 'P' 'F' <version> <capabilities>     hello; the shim answers with the same frame
//! shim -> engine   'c' | 'r'                               intent
//! engine -> shim   'a'                                     intent accepted
//! engine -> shim   01 <u32 big-endian length> <JSON>       receipt; the shim answers 02
//! ```

use serde::Deserialize;

/// The longest receipt the protocol allows, in bytes.
pub(super) const MAX_RECEIPT: usize = 4096;
/// The longest first line that is read. A token has 32 bytes.
const MAX_TOKEN: usize = 128;

/// The answer to a receipt: it is stored.
pub(super) const RECEIPT_STORED: u8 = 2;

const HELLO: [u8; 3] = [0, b'P', b'F'];
const ACCEPTED: u8 = b'a';
const RECEIPT: u8 = 1;

/// Takes what an engine sends apart.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: Vec<u8>,
    authenticated: bool,
}

/// One thing an engine says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The first line: who it claims to be.
    Token(Vec<u8>),
    /// What it can do.
    Hello { version: u8, capabilities: u8 },
    /// It will take the next polite signal as what it was told.
    Accepted,
    /// The API knows how the attempt ended.
    Receipt,
}

/// What no engine sends. The connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A receipt, as far as it is looked at: what the API knows is read from the API.
#[derive(Deserialize)]
struct Receipt {
    disposition: Disposition,
}

#[derive(Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Disposition {
    StateReported,
    OrchestrationAborted,
}

// === impl Decoder ===

impl Decoder {
    /// Takes in what was received. What is kept is bounded, as long as [`Self::next_frame`] is called until it finds nothing.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one.
    pub(super) fn next_frame(&mut self) -> Result<Option<Frame>, Malformed> {
        let Some((frame, length)) = self.parse()? else {
            return Ok(None);
        };
        self.buffer.drain(..length);
        self.authenticated = true;
        Ok(Some(frame))
    }

    fn parse(&self) -> Result<Option<(Frame, usize)>, Malformed> {
        if !self.authenticated {
            return match self.buffer.iter().position(|&byte| byte == b'\n') {
                Some(end) if end <= MAX_TOKEN => {
                    Ok(Some((Frame::Token(self.buffer[..end].to_vec()), end + 1)))
                }
                None if self.buffer.len() <= MAX_TOKEN => Ok(None),
                Some(_) | None => Err(Malformed),
            };
        }
        match self.buffer.first() {
            None => Ok(None),
            Some(&ACCEPTED) => Ok(Some((Frame::Accepted, 1))),
            Some(&RECEIPT) => self.parse_receipt(),
            Some(_) => self.parse_hello(),
        }
    }

    fn parse_hello(&self) -> Result<Option<(Frame, usize)>, Malformed> {
        let known = HELLO.len().min(self.buffer.len());
        if self.buffer[..known] != HELLO[..known] {
            return Err(Malformed);
        }
        match self.buffer[known..] {
            [version, capabilities, ..] => Ok(Some((
                Frame::Hello {
                    version,
                    capabilities,
                },
                HELLO.len() + 2,
            ))),
            _ => Ok(None),
        }
    }

    fn parse_receipt(&self) -> Result<Option<(Frame, usize)>, Malformed> {
        let Some((length, rest)) = self.buffer[1..].split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_RECEIPT {
            return Err(Malformed);
        }
        let Some(json) = rest.get(..length) else {
            return Ok(None);
        };
        let receipt: Receipt = serde_json::from_slice(json).map_err(|_| Malformed)?;
        match receipt.disposition {
            Disposition::StateReported | Disposition::OrchestrationAborted => {
                Ok(Some((Frame::Receipt, 1 + 4 + length)))
            }
        }
    }
}

/// The answer to a hello: receipts if the engine can, else the first version of the protocol.
pub(super) fn answer(version: u8, capabilities: u8) -> [u8; 5] {
    let receipts = version >= 2 && capabilities & 1 != 0;
    let [zero, p, f] = HELLO;
    [zero, p, f, if receipts { 2 } else { 1 }, u8::from(receipts)]
}

#[cfg(test)]
mod tests;
