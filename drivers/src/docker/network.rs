//! How a container reaches the API that its worker speaks to.

/// The name under which a container finds its host.
const HOST: &str = "host.docker.internal";

/// The network mode of a container: the one somebody chose; the host's where only there the API can be reached; else the engine's default.
pub(super) fn mode(
    chosen: Option<&str>,
    networks: &[String],
    api_url: Option<&str>,
) -> Option<String> {
    if let Some(chosen) = chosen.filter(|mode| !mode.is_empty()) {
        return Some(chosen.to_owned());
    }
    let local = api_url.is_some_and(|url| ["localhost", "127.0.0.1"].contains(&host(url)));
    (networks.is_empty() && local).then(|| "host".to_owned())
}

/// The URL of the API as a container on a network of its own can use it.
pub(super) fn reachable(api_url: &str) -> String {
    api_url
        .replace("localhost", HOST)
        .replace("127.0.0.1", HOST)
}

/// The entry that lets a container find its host, if it may want to.
pub(super) fn host_entry(api_url: Option<&str>) -> Option<(String, String)> {
    let wanted = api_url.is_none_or(|url| {
        ["localhost", "127.0.0.1", HOST]
            .iter()
            .any(|local| url.contains(local))
    });
    wanted.then(|| (HOST.to_owned(), "host-gateway".to_owned()))
}

/// What is between `//` and the first `:` or the end of the authority, as Python's `urlparse` takes a URL apart. A user's name is not taken off.
fn host(url: &str) -> &str {
    let url = url.trim_start_matches(|c: char| c <= ' ');
    let scheme_end = url.find(':').filter(|end| {
        let scheme = &url[..*end];
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|c| c.is_ascii_alphanumeric() || b"+-.".contains(&c))
    });
    let rest = scheme_end.map_or(url, |end| &url[end + 1..]);
    let Some(rest) = rest.strip_prefix("//") else {
        return "";
    };
    rest.split(['/', '?', '#', ':']).next().unwrap_or_default()
}
