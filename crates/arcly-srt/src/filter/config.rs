//! What a filter is asked to do, and what both ends agree on.

use core::fmt;
use core::str::FromStr;

/// Columns of a matrix: a packet names its column in seven bits.
pub const MAX_COLUMNS: u16 = 127;
/// Rows of a matrix. Each is a packet's worth of memory at the receiver.
pub const MAX_ROWS: u16 = 256;
/// Packets of a matrix: a receive buffer's worth, so that nobody can make this side remember more.
pub const MAX_MATRIX: u32 = 8_192;
const NAME: &str = "fec";

/// How columns are arranged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Below each other: the packets for columns come all at once.
    Even,
    /// Each begins a row below the one before.
    #[default]
    Staircase,
}

/// Whether lost packets are asked for, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArqLevel {
    /// At once.
    Always,
    /// When the filter has given up.
    #[default]
    OnRequest,
    /// Not at all.
    Never,
}

/// A filter's configuration as it is written: `fec,cols:10,rows:5,layout:staircase,arq:onreq`. What is not said, the other
/// end says, or the defaults do; `fec` alone takes whatever the other end wants.
///
/// ```
/// use arcly_srt::filter::{FecLayout, FilterConfig};
///
/// let ours: FilterConfig = "fec".parse()?;
/// let theirs: FilterConfig = "fec,cols:10,rows:5".parse()?;
/// let agreed: FecLayout = ours.merge(&theirs)?.layout()?;
/// assert_eq!(agreed.to_string(), "fec,cols:10,rows:5,layout:staircase,arq:onreq");
/// # Ok::<(), arcly_srt::filter::FilterError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterConfig {
    /// Packets of a row: 2 to [`MAX_COLUMNS`].
    pub columns: Option<u16>,
    /// Packets of a column: 1 for rows alone, negative for columns alone; at most [`MAX_ROWS`].
    pub rows: Option<i16>,
    /// How columns are arranged.
    pub layout: Option<Layout>,
    /// Whether lost packets are asked for.
    pub arq: Option<ArqLevel>,
}

/// A configuration that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// A filter that is not `fec`.
    #[error("the packet filter is not `fec`")]
    Unknown,
    /// A key or a value that is not known, or out of its bounds.
    #[error("the packet filter's `{0}` cannot be used")]
    Value(&'static str),
    /// The two ends want different things.
    #[error("the packet filters of the two ends differ in `{0}`")]
    Differs(&'static str),
    /// Neither end says how many columns.
    #[error("the packet filter says no `cols`")]
    NoColumns,
}

impl FromStr for FilterConfig {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',');
        if parts.next() != Some(NAME) {
            return Err(FilterError::Unknown);
        }
        let mut config = Self::default();
        for part in parts {
            match part.split_once(':').ok_or(FilterError::Value("syntax"))? {
                ("cols", value) => config.columns = Some(columns(value)?),
                ("rows", value) => config.rows = Some(rows(value)?),
                ("layout", "even") => config.layout = Some(Layout::Even),
                ("layout", "staircase") => config.layout = Some(Layout::Staircase),
                ("layout", _) => return Err(FilterError::Value("layout")),
                ("arq", "always") => config.arq = Some(ArqLevel::Always),
                ("arq", "onreq") => config.arq = Some(ArqLevel::OnRequest),
                ("arq", "never") => config.arq = Some(ArqLevel::Never),
                ("arq", _) => return Err(FilterError::Value("arq")),
                _ => return Err(FilterError::Value("key")),
            }
        }
        Ok(config)
    }
}

fn columns(value: &str) -> Result<u16, FilterError> {
    value.parse().ok().filter(|columns| (2..=MAX_COLUMNS).contains(columns)).ok_or(FilterError::Value("cols"))
}

fn rows(value: &str) -> Result<i16, FilterError> {
    let usable = |rows: &i16| !matches!(rows, -1..=0) && rows.unsigned_abs() <= MAX_ROWS;
    value.parse().ok().filter(usable).ok_or(FilterError::Value("rows"))
}

impl FilterConfig {
    /// What both ends say.
    ///
    /// # Errors
    /// They say different things: the connection is to be refused ([`RejectReason::FILTER`](crate::wire::RejectReason::FILTER)).
    pub fn merge(&self, peer: &Self) -> Result<Self, FilterError> {
        Ok(Self {
            columns: same(self.columns, peer.columns, "cols")?,
            rows: same(self.rows, peer.rows, "rows")?,
            layout: same(self.layout, peer.layout, "layout")?,
            arq: same(self.arq, peer.arq, "arq")?,
        })
    }

    /// What it comes to, with libsrt's defaults for what nobody says: rows alone, a staircase, and asking for what the filter
    /// has given up.
    ///
    /// # Errors
    /// Nobody says how many columns, or the matrix is too large.
    pub fn layout(&self) -> Result<FecLayout, FilterError> {
        let columns = self.columns.ok_or(FilterError::NoColumns)?.clamp(2, MAX_COLUMNS);
        let rows = self.rows.unwrap_or(1);
        let layout = FecLayout {
            columns,
            rows: rows.unsigned_abs().clamp(1, MAX_ROWS),
            columns_only: rows < -1,
            layout: self.layout.unwrap_or_default(),
            arq: self.arq.unwrap_or_default(),
        };
        if layout.matrix() > MAX_MATRIX { Err(FilterError::Value("rows")) } else { Ok(layout) }
    }
}

fn same<T: Copy + PartialEq>(
    a: Option<T>,
    b: Option<T>,
    what: &'static str,
) -> Result<Option<T>, FilterError> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => Err(FilterError::Differs(what)),
        (a, b) => Ok(a.or(b)),
    }
}

impl fmt::Display for FilterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        self.columns.iter().try_for_each(|columns| write!(f, ",cols:{columns}"))?;
        self.rows.iter().try_for_each(|rows| write!(f, ",rows:{rows}"))?;
        self.layout.iter().try_for_each(|layout| write!(f, ",layout:{layout}"))?;
        self.arq.iter().try_for_each(|arq| write!(f, ",arq:{arq}"))
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Even => "even",
            Self::Staircase => "staircase",
        })
    }
}

impl fmt::Display for ArqLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::OnRequest => "onreq",
            Self::Never => "never",
        })
    }
}

/// What both ends have agreed on: a matrix of at most [`MAX_MATRIX`] packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FecLayout {
    columns: u16,
    rows: u16,
    columns_only: bool,
    layout: Layout,
    arq: ArqLevel,
}

impl FecLayout {
    /// Packets of a row.
    #[must_use]
    pub const fn columns(self) -> u16 {
        self.columns
    }

    /// Packets of a column; 1 when there are rows alone.
    #[must_use]
    pub const fn rows(self) -> u16 {
        self.rows
    }

    /// True when columns make up for packets.
    #[must_use]
    pub const fn has_columns(self) -> bool {
        self.rows > 1
    }

    /// True when rows do.
    #[must_use]
    pub const fn has_rows(self) -> bool {
        !self.columns_only
    }

    /// Whether lost packets are asked for.
    #[must_use]
    pub const fn arq(self) -> ArqLevel {
        self.arq
    }

    /// Packets of the matrix.
    #[must_use]
    pub fn matrix(self) -> u32 {
        u32::from(self.columns).saturating_mul(self.rows.into())
    }

    /// How far behind the first packet the first of a column is.
    pub(super) fn column_offset(self, column: u16) -> u32 {
        let step = match self.layout {
            Layout::Even => 0,
            Layout::Staircase => u32::from(column.checked_rem(self.rows).unwrap_or(0)),
        };
        step.saturating_mul(self.columns.into()).saturating_add(column.into())
    }
}

/// In full: what an answer says.
impl fmt::Display for FecLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.columns_only { "-" } else { "" };
        let Self { columns, rows, layout, arq, .. } = self;
        write!(f, "{NAME},cols:{columns},rows:{sign}{rows},layout:{layout},arq:{arq}")
    }
}
