use proptest::prelude::*;

use super::{Decoder, Frame, MAX_RECEIPT, Malformed, answer};

const ABORTED: &[u8] = br#"{"disposition":"ORCHESTRATION_ABORTED"}"#;

fn receipt(json: &[u8]) -> Vec<u8> {
    let length = u32::try_from(json.len()).expect("it is short");
    [&[1], &length.to_be_bytes()[..], json].concat()
}

fn decode(chunks: &[&[u8]]) -> (Vec<Frame>, Result<(), Malformed>) {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(malformed) => return (frames, Err(malformed)),
            }
        }
    }
    (frames, Ok(()))
}

#[test]
fn a_whole_session_is_understood() {
    let json = br#"{"disposition":"STATE_REPORTED","state_id":"01a1","state_name":"Failed","state_type":"FAILED"}"#;
    let bytes = [b"cafe\n\0PF\x02\x01a".as_slice(), &receipt(json)].concat();
    let (frames, end) = decode(&[&bytes]);
    assert_eq!(end, Ok(()));
    assert_eq!(
        frames,
        [
            Frame::Token(b"cafe".to_vec()),
            Frame::Hello {
                version: 2,
                capabilities: 1
            },
            Frame::Accepted,
            Frame::Receipt,
        ]
    );
}

#[test]
fn what_no_engine_sends_is_malformed() {
    let too_long = u32::try_from(MAX_RECEIPT + 1)
        .expect("it fits")
        .to_be_bytes();
    for bytes in [
        [b'x'; 200].as_slice(),
        b"t\nx",
        b"t\n\0PX\x02\x01",
        &[b"t\n\x01", &too_long[..]].concat(),
        &[b"t\n", &receipt(b"{}")[..]].concat(),
        &[b"t\n", &receipt(br#"{"disposition":"MAYBE"}"#)[..]].concat(),
    ] {
        assert_eq!(decode(&[bytes]).1, Err(Malformed), "{bytes:?}");
    }
}

#[test]
fn the_answer_offers_receipts_only_to_who_can_send_them() {
    assert_eq!(answer(2, 1), *b"\0PF\x02\x01");
    assert_eq!(answer(3, 0xff), *b"\0PF\x02\x01");
    assert_eq!(answer(2, 0), *b"\0PF\x01\x00");
    assert_eq!(answer(1, 1), *b"\0PF\x01\x00");
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_grow(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40)) {
        let mut decoder = Decoder::default();
        for chunk in &chunks {
            decoder.push(chunk);
            loop {
                match decoder.next_frame() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(Malformed) => return Ok(()),
                }
            }
            prop_assert!(decoder.buffer.len() <= MAX_RECEIPT + 5);
        }
    }

    #[test]
    fn it_does_not_matter_how_bytes_are_cut(cuts in prop::collection::vec(1usize..20, 0..20)) {
        let bytes = [b"cafe\n\0PF\x02\x01".as_slice(), &receipt(ABORTED)].concat();
        let mut rest = bytes.as_slice();
        let mut chunks = Vec::new();
        for cut in cuts {
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        chunks.push(rest);
        prop_assert_eq!(decode(&chunks), decode(&[&bytes]));
    }
}
