//! What of a configuration may change while the server runs.

use toml::Table;

use super::Config;

impl Config {
    /// This configuration with those parts of `new` that a running server can take over.
    pub(crate) fn with_what_may_change(&self, new: &Self) -> Self {
        let mut changed = self.clone();
        changed.auth.clone_from(&new.auth);
        changed.apps.clone_from(&new.apps);
        changed.limits.clone_from(&new.limits);
        changed.http.cors_origins.clone_from(&new.http.cors_origins);
        changed.log.filter.clone_from(&new.log.filter);
        changed
    }

    /// The keys in which two configurations differ, as `section.key`. Secrets do not count.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let table = |config: &Self| Table::try_from(config).unwrap_or_default();
        let (ours, theirs) = (table(self), table(other));
        let mut keys: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
        keys.sort();
        keys.dedup();
        keys.into_iter().flat_map(|key| within(key, ours.get(key), theirs.get(key))).collect()
    }
}

/// The keys below `key` whose values differ; `key` itself when it is not a section on both sides.
fn within(key: &str, ours: Option<&toml::Value>, theirs: Option<&toml::Value>) -> Vec<String> {
    if ours == theirs {
        return Vec::new();
    }
    let (Some(toml::Value::Table(ours)), Some(toml::Value::Table(theirs))) = (ours, theirs) else {
        return vec![key.to_owned()];
    };
    let mut names: Vec<&String> = ours.keys().chain(theirs.keys()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| ours.get(*name) != theirs.get(*name));
    names.into_iter().map(|name| format!("{key}.{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f61_what_differs_is_named_unless_it_may_change() {
        let old = Config::default();
        let new = Config::from_toml(
            "data_dir = 'elsewhere'\n[rtmp]\nlisten = ':1940'\n[http]\ncors_origins = []\nlisten = 'off'\n\
             [tls]\ncert = 'a'\nkey = 'b'\n[log]\nfilter = 'debug'\nformat = 'json'\n[limits]\nstreams = 3\n\
             [apps.live]\ntakeover = 'reject'\n[auth]\npublic_play = ['*']\n\
             [[relays]]\nfrom = 'live/a'\nto = 'live/b'\n",
        )
        .unwrap();
        let changed = old.with_what_may_change(&new);
        assert_eq!(
            changed.differences(&new),
            ["data_dir", "http.listen", "log.format", "relays", "rtmp.listen", "tls.cert", "tls.key"]
        );
        assert_eq!((changed.limits.streams, &*changed.log.filter), (3, "debug"));
        assert!(changed.http.cors_origins.is_empty() && changed.apps.contains_key("live"));
        assert_eq!(changed.auth, new.auth);
        assert!(new.differences(&new).is_empty());
    }
}
