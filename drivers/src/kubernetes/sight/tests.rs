use std::time::Duration;

use tokio::time::Instant;

use super::{Refusal, Sight};

fn everywhere() -> Vec<Option<String>> {
    vec![None]
}

fn only(namespaces: &[&str]) -> Vec<Option<String>> {
    let names = namespaces.iter();
    names.map(|name| Some((*name).to_owned())).collect()
}

#[test]
fn who_may_not_see_all_looks_where_its_jobs_are() {
    let (mut sight, now) = (Sight::all_or("home"), Instant::now());
    assert!(!sight.learn("team"), "all is seen");
    assert_eq!(sight.scopes(), everywhere());
    assert_eq!(sight.forbid(None, "no", now), Refusal::Accepted(true));
    assert_eq!(sight.forbid(None, "no", now), Refusal::Accepted(false));
    assert_eq!(sight.scopes(), only(&["home", "team"]));
    assert!(sight.learn("other"));
    assert!(!sight.learn("other"), "it is known");
    assert_eq!(sight.scopes(), only(&["home", "other", "team"]));
}

#[test]
fn what_was_seen_and_is_refused_is_tried_again_for_a_time() {
    let (mut sight, now) = (Sight::all_or("home"), Instant::now());
    sight.see(None);
    assert_eq!(sight.forbid(None, "no", now), Refusal::Surprise);
    assert_eq!(sight.scopes(), everywhere());
    let later = now + Duration::from_secs(20);
    sight.see(None);
    assert_eq!(sight.forbid(None, "no", later), Refusal::Surprise);
    let much_later = later + Duration::from_mins(1);
    let refusal = sight.forbid(None, "no", much_later);
    assert_eq!(refusal, Refusal::Accepted(true));
    assert_eq!(sight.scopes(), only(&["home"]));
    sight.see(None);
    assert_eq!(sight.scopes(), only(&["home"]), "an answer on its way");
}

#[test]
fn a_hidden_namespace_of_our_jobs_holds_everything_up_but_not_for_ever() {
    let (mut sight, now) = (Sight::all_or("home"), Instant::now());
    sight.narrow_to(&["team".to_owned()]);
    sight.learn("team");
    assert_eq!(sight.forbid(Some("team"), "no", now), Refusal::Surprise);
    let blindness = sight.find_blindness().expect("its jobs cannot be seen");
    assert!(blindness.contains("'team'"), "{blindness}");
    sight.see(Some("team"));
    assert_eq!(sight.find_blindness(), None);

    assert_eq!(sight.forbid(Some("team"), "no", now), Refusal::Surprise);
    let later = now + Duration::from_mins(11);
    assert_eq!(sight.forbid(Some("team"), "no", later), Refusal::GivenUp);
    assert_eq!(sight.find_blindness(), None);
    assert_eq!(sight.scopes(), only(&["home"]));
    assert!(!sight.learn_again("team"), "a job of before");
    assert!(sight.learn("team"), "the next job there brings it back");
}

#[test]
fn a_namespace_that_is_nobodys_is_let_go() {
    let (mut sight, now) = (Sight::all_or("home"), Instant::now());
    sight.narrow_to(&["team".to_owned()]);
    let refusal = sight.forbid(Some("team"), "no", now);
    assert_eq!(refusal, Refusal::Accepted(true));
    assert_eq!(sight.find_blindness(), None);
    assert_eq!(sight.scopes(), only(&["home"]));
}

#[test]
fn a_namespace_in_which_nothing_could_be_made_is_let_go_without_a_fault() {
    let mut sight = Sight::all_or("flows");
    let now = Instant::now();
    assert_eq!(sight.forbid(None, "no", now), Refusal::Accepted(true));
    assert!(sight.mention("elsewhere"));
    assert!(!sight.mention("elsewhere"));
    assert!(sight.namespaces().contains(&"elsewhere".to_owned()));
    let refused = sight.forbid(Some("elsewhere"), "no", now);
    assert_eq!(refused, Refusal::Accepted(true));
    assert_eq!(sight.find_blindness(), None);
    // A mention takes nothing from a place where jobs of ours are.
    sight.learn("flows");
    assert!(!sight.mention("flows"));
    assert_eq!(sight.forbid(Some("flows"), "no", now), Refusal::Surprise);
}
