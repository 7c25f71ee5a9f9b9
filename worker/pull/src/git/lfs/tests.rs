use super::*;

const OID: &str = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";

fn parse(text: &str) -> Option<Pointer> {
    Pointer::parse("file".into(), text.as_bytes())
}

#[test]
fn a_pointer_is_read_by_its_specification() {
    let text = format!(
        "version https://git-lfs.github.com/spec/v1\next-0-x sha256:{OID}\noid sha256:{OID}\nsize 12345\n"
    );
    let found = parse(&text).expect("a pointer");
    assert_eq!((found.oid.as_str(), found.size), (OID, 12345));
}

#[test]
fn what_is_no_pointer_stays_a_file() {
    for text in [
        "",
        "version 1\n",
        "print('hello')\n",
        "version https://git-lfs.github.com/spec/v1\nsize 1\n",
        "version https://git-lfs.github.com/spec/v1\noid sha256:../../etc\nsize 1\n",
        &format!("version https://git-lfs.github.com/spec/v1\noid md5:{OID}\nsize 1\n"),
        &format!("version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize -1\n"),
    ] {
        assert_eq!(parse(text), None, "{text}");
    }
}
