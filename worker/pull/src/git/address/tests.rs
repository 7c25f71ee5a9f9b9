use super::*;

fn parse(text: &str) -> Result<(Address, Option<Credentials>), AddressError> {
    Address::parse(text, Path::new("/base"))
}

#[test]
fn every_way_to_write_an_address_is_read() {
    for (text, shown) in [
        ("https://h.example/o/r.git/", "https://h.example/o/r.git"),
        ("git@h.example:o/r.git", "ssh://git@h.example/~/o/r.git"),
        ("git@h.example:/srv/r.git", "ssh://git@h.example/srv/r.git"),
        (
            "ssh://git@h.example:2222/~me/r.git",
            "ssh://git@h.example:2222/~/~me/r.git",
        ),
        ("git://h.example/r.git", "git://h.example:9418/r.git"),
        ("file:///srv/a%20b", "/srv/a b"),
        ("file://localhost/srv/a", "/srv/a"),
        ("code", "/base/code"),
        ("/srv/a:b", "/srv/a:b"),
    ] {
        let (address, credentials) = parse(text).expect(text);
        assert_eq!(address.to_string(), shown, "{text}");
        assert_eq!(credentials, None, "{text}");
    }
}

#[test]
fn what_could_be_taken_for_an_option_or_is_no_address_is_refused() {
    for (text, error) in [
        ("ssh://-oProxyCommand=x/r", AddressError::Option),
        ("-oProxyCommand=x:r", AddressError::Option),
        ("ssh://-u@h/r", AddressError::Option),
        ("-u@h:r", AddressError::Option),
        ("ext://sh", AddressError::Scheme("ext".to_owned())),
        ("https://", AddressError::Unreadable),
        ("file://elsewhere/x", AddressError::Unreadable),
        (" ", AddressError::Empty),
    ] {
        assert_eq!(parse(text).expect_err(text), error, "{text}");
    }
}

#[test]
fn what_a_url_holds_as_user_and_password_is_kept_apart() {
    for (text, user, password) in [
        ("https://me:p%40ss@h/r", "me", "p@ss"),
        ("https://token@h/r", "token", ""),
    ] {
        let (address, credentials) = parse(text).expect(text);
        assert_eq!(address.to_string(), "https://h/r");
        let expected = Credentials::new(user, Secret::new(password));
        assert_eq!(credentials, Some(expected));
    }
    let (address, none) = parse("ssh://me:secret@h/r").expect("an address");
    assert_eq!((address.to_string().as_str(), none), ("ssh://me@h/r", None));
}

#[test]
fn submodules_are_found_beside_their_parent_and_not_on_this_machine() {
    let of = |parent: &str, text: &str| {
        let (parent, _) = parse(parent).expect("an address");
        parent.of_submodule(text).map(|address| address.to_string())
    };
    assert_eq!(
        of("https://h/o/r.git", "../s.git"),
        Ok("https://h/o/s.git".to_owned())
    );
    assert_eq!(
        of("https://h/o/r.git", "./s.git"),
        Ok("https://h/o/r.git/s.git".to_owned())
    );
    assert_eq!(
        of("git@h:o/r.git", "../../p/s.git"),
        Ok("ssh://git@h/p/s.git".to_owned())
    );
    assert_eq!(
        of("https://h/r", "https://u:t@k/s"),
        Ok("https://k/s".to_owned())
    );
    let stolen = AddressError::Scheme("file".to_owned());
    assert_eq!(of("https://h/r", "/etc"), Err(stolen.clone()));
    assert_eq!(of("https://h/r", "file:///etc"), Err(stolen));
    assert_eq!(of("/srv/r", "../s"), Ok("/srv/s".to_owned()));
}
