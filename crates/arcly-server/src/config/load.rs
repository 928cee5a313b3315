//! Puts the configuration together from file, environment and flags, with errors that say where and what.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{Config, HttpConfig, Listen, LogFormat, RtmpConfig, RtspConfig};

/// Where a file is looked for when none is named, first found first.
const SEARCH: [&str; 2] = ["arcly.toml", "/etc/arcly/arcly.toml"];
/// What every variable begins with.
const PREFIX: &str = "ARCLY_";
/// Variables without `__` that are keys; others of that form belong to somebody else.
const TOP_LEVEL: [&str; 1] = ["DATA_DIR"];

/// Why a configuration cannot be used: one message for people, naming the source and the key.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    /// An error with that message.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// What the command line says; stronger than everything else.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "each is the flag of the same name")]
pub struct Overrides {
    pub rtmp: Option<Listen>,
    pub rtsp: Option<Listen>,
    pub srt: Option<Listen>,
    pub http: Option<Listen>,
    pub webrtc: Option<Listen>,
    pub data_dir: Option<PathBuf>,
    pub log: Option<String>,
    pub log_format: Option<LogFormat>,
}

impl Config {
    /// Loads the configuration as `arcly serve` does.
    ///
    /// # Errors
    /// The file cannot be read, or a source has an unknown key or a value that cannot be.
    pub fn load(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        flags: &Overrides,
    ) -> Result<Self, ConfigError> {
        let env: Vec<(String, String)> = env.into_iter().collect();
        let mut table = match find(file, &env)? {
            Some(path) => read(&path)?,
            None => Table::new(),
        };
        for (name, value) in &env {
            apply_variable(&mut table, name, value)?;
        }
        let mut config = Self::deserialize_table(&table).map_err(|e| ConfigError(explain(&e)))?;
        config.apply_filters(&env);
        config.apply_flags(flags);
        config.validate()?;
        Ok(config)
    }

    /// Reads a configuration from TOML text, without environment and flags.
    ///
    /// # Errors
    /// The text is not TOML, or has an unknown key or a value that cannot be.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|e| ConfigError(explain(&e)))?;
        config.validate()?;
        Ok(config)
    }

    /// The whole configuration as TOML; secrets are masked.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("every value of Config has a TOML form")
    }

    fn deserialize_table(table: &Table) -> Result<Self, toml::de::Error> {
        Value::Table(table.clone()).try_into()
    }

    /// `ARCLY_LOG`, then `RUST_LOG`, decide the filter.
    fn apply_filters(&mut self, env: &[(String, String)]) {
        let variable = |wanted| env.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        if let Some(filter) = variable("ARCLY_LOG").or_else(|| variable("RUST_LOG")) {
            self.log.filter = filter;
        }
    }

    /// A protocol that the command line switches off is off over TLS as well, whatever certificate there is, unless the
    /// configuration says where that is to listen.
    fn switch_off(&mut self, flags: &Overrides) {
        let secure = [
            (&mut self.rtmp.tls_listen, RtmpConfig::default().tls_listen, &flags.rtmp),
            (&mut self.rtsp.tls_listen, RtspConfig::default().tls_listen, &flags.rtsp),
            (&mut self.http.tls_listen, HttpConfig::default().tls_listen, &flags.http),
        ];
        for (listen, default, flag) in secure {
            if let Some(off) = flag.as_ref().filter(|flag| flag.is_off() && *listen == default) {
                listen.clone_from(off);
            }
        }
    }

    fn apply_flags(&mut self, flags: &Overrides) {
        let listens = [
            (&mut self.rtmp.listen, &flags.rtmp),
            (&mut self.rtsp.listen, &flags.rtsp),
            (&mut self.srt.listen, &flags.srt),
            (&mut self.http.listen, &flags.http),
            (&mut self.webrtc.listen, &flags.webrtc),
        ];
        for (listen, flag) in listens {
            if let Some(flag) = flag {
                listen.clone_from(flag);
            }
        }
        self.switch_off(flags);
        if let Some(dir) = &flags.data_dir {
            self.data_dir.clone_from(dir);
        }
        if let Some(filter) = &flags.log {
            self.log.filter.clone_from(filter);
        }
        self.log.format = flags.log_format.unwrap_or(self.log.format);
    }
}

/// The file to read: the one named on the command line or in `ARCLY_CONFIG`, which must exist, or the first that
/// is found where files are usually put.
fn find(file: Option<&Path>, env: &[(String, String)]) -> Result<Option<PathBuf>, ConfigError> {
    let named = file
        .map(Path::to_owned)
        .or_else(|| env.iter().find(|(name, _)| name == "ARCLY_CONFIG").map(|(_, path)| PathBuf::from(path)));
    Ok(named.or_else(|| SEARCH.iter().map(PathBuf::from).find(|path| path.is_file())))
}

fn read(path: &Path) -> Result<Table, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError(format!("cannot read {}: {error}", path.display())))?;
    // Deserialised for the sake of the error, which points at line and column.
    toml::from_str::<Config>(&text)
        .map_err(|e| ConfigError(format!("{}: {}", path.display(), explain(&e))))?;
    toml::from_str(&text).map_err(|e| ConfigError(format!("{}: {}", path.display(), explain(&e))))
}

/// Puts one variable into the table, in whichever form the key it names takes.
fn apply_variable(table: &mut Table, name: &str, value: &str) -> Result<(), ConfigError> {
    let Some(key) = name.strip_prefix(PREFIX) else { return Ok(()) };
    if !key.contains("__") && !TOP_LEVEL.contains(&key) {
        return Ok(());
    }
    let path: Vec<String> = key.split("__").map(str::to_ascii_lowercase).collect();
    let mut error = None;
    for candidate in candidates(value) {
        let mut tried = table.clone();
        insert(&mut tried, &path, candidate)
            .map_err(|key| ConfigError(format!("environment {name}: `{key}` is not a section")))?;
        match Config::deserialize_table(&tried) {
            Ok(_) => {
                *table = tried;
                return Ok(());
            }
            // The last form is plain text, whose error is the plainest.
            Err(failed) => error = Some(failed),
        }
    }
    let error = error.map(|e| explain(&e)).unwrap_or_default();
    Err(ConfigError(format!("environment {name}: {}", error.trim_end())))
}

/// What the text of a variable may mean: a number, truth value or array of TOML, a list, or just text.
fn candidates(text: &str) -> Vec<Value> {
    let literal =
        toml::from_str::<Table>(&format!("v = {text}")).ok().and_then(|mut table| table.remove("v"));
    let list = Value::Array(text.split(',').map(|item| Value::String(item.trim().to_owned())).collect());
    literal.into_iter().filter(|v| !v.is_str()).chain([list, Value::String(text.to_owned())]).collect()
}

fn insert(table: &mut Table, path: &[String], value: Value) -> Result<(), String> {
    match path {
        [] => Ok(()),
        [key] => {
            table.insert(key.clone(), value);
            Ok(())
        }
        [section, rest @ ..] => {
            let entry = table.entry(section.clone()).or_insert_with(|| Value::Table(Table::new()));
            let inner = entry.as_table_mut().ok_or_else(|| section.clone())?;
            insert(inner, rest, value)
        }
    }
}

/// The deserialiser's message, with the nearest valid name added where a name is wrong.
fn explain(error: &toml::de::Error) -> String {
    let text = error.to_string();
    match suggestion(error.message()) {
        Some(nearest) => format!("{}\nhelp: did you mean `{nearest}`?", text.trim_end()),
        None => text.trim_end().to_owned(),
    }
}

/// Of a message "unknown field `x`, expected one of `a`, `b`", the name most like `x`.
fn suggestion(message: &str) -> Option<&str> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let wrong = names.next()?;
    names.min_by_key(|name| edit_distance(wrong, name))
}

/// Levenshtein's distance between two short names.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(!x.eq_ignore_ascii_case(&y));
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests;
