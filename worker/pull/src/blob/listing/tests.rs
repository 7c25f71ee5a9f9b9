use bytes::Bytes;

use super::sift;

fn page(objects: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<ListBucketResult><Name>b</Name>{objects}<IsTruncated>false</IsTruncated></ListBucketResult>"
    )
}

fn object(key: &str) -> String {
    format!("<Contents>\n <Key>{key}</Key><Size>1</Size><Owner><ID>k</ID></Owner></Contents>")
}

fn sifted(text: &str) -> (String, Vec<String>) {
    let page = sift(Bytes::copy_from_slice(text.as_bytes()));
    (
        String::from_utf8(page.body.to_vec()).expect("text"),
        page.unfit,
    )
}

#[test]
fn a_page_of_good_keys_stays_as_it_is() {
    let text = page(
        &["a", "b/c.py", "d &amp; e", "é", "x y "]
            .map(object)
            .concat(),
    );
    assert_eq!(sifted(&text), (text, vec![]));
    assert_eq!(sifted(&page("")).1, Vec::<String>::new());
}

#[test]
fn keys_that_cannot_be_had_are_cut_out_and_told() {
    let bad = ["a/../b", "a//b", "/a", "a/./b", "..", "a&#1;b"];
    let keys = ["first"].into_iter().chain(bad).chain(["last"]);
    let text = page(&keys.map(object).collect::<String>());
    let (kept, unfit) = sifted(&text);
    assert_eq!(kept, page(&["first", "last"].map(object).concat()));
    assert_eq!(unfit, ["a/../b", "a//b", "/a", "a/./b", "..", "a\u{1}b"]);
}

#[test]
fn markers_of_folders_are_cut_out_in_silence() {
    let (kept, unfit) = sifted(&page(&["p/", "p/a", "p/b/"].map(object).concat()));
    assert_eq!((kept, unfit), (page(&object("p/a")), vec![]));
}

#[test]
fn a_key_that_is_no_text_is_cut_out_too() {
    let (kept, unfit) = sifted(&page(&["a&nonsense;", "b"].map(object).concat()));
    assert_eq!((kept, unfit.len()), (page(&object("b")), 1));
}

#[test]
fn azures_blobs_are_seen_as_well() {
    let blob = |name: &str| {
        format!("<Blob><Name>{name}</Name><Properties><Etag>x</Etag></Properties></Blob>")
    };
    let text = |blobs: String| {
        format!("<EnumerationResults><Blobs>{blobs}</Blobs><NextMarker/></EnumerationResults>")
    };
    let (kept, unfit) = sifted(&text(["a", "b/../c", "d/"].map(blob).concat()));
    assert_eq!((kept, unfit), (text(blob("a")), vec!["b/../c".to_owned()]));
}

#[test]
fn what_is_no_listing_is_left_to_whoever_reads_it() {
    for text in [
        "",
        "no xml",
        "<a><b></a>",
        "<ListBucketResult><Contents><Key>x",
    ] {
        assert_eq!(sifted(text), (text.to_owned(), vec![]));
    }
}
