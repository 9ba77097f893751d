//! A snapshot as a PDF document (ISO 32000-1): a table over as many pages as it takes, each with the report's name, the
//! names of the columns and its number. Pages go out one after the other; what a reader needs at the end, the fonts
//! with the characters that were used and the table of where everything lies, is written last.

use crate::cell::Cell;
use crate::export::ExportError;
use crate::report::Shown;
use crate::template::ColumnType;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use pdf_writer::types::{CidFontType, FontFlags, SystemInfo, UnicodeCmap};
use pdf_writer::{Chunk, Content, Filter, Finish as _, Name, Rect, Ref, Str, TextStr};
use std::collections::HashMap;
use std::io::{self, Write};
use subsetter::GlyphRemapper;
use ttf_parser::Face;

/// DejaVu Sans Condensed: Latin, Greek, Cyrillic and more, under the licence beside it.
const PLAIN: &[u8] = include_bytes!("../fonts/DejaVuSansCondensed.ttf");
const BOLD: &[u8] = include_bytes!("../fonts/DejaVuSansCondensed-Bold.ttf");

/// Lengths in points, a 72nd of an inch.
const MARGIN: f32 = 36.0;
const SIZE: f32 = 8.0;
const LINE: f32 = 10.5;
const PAD_X: f32 = 3.0;
const PAD_Y: f32 = 2.5;
const TITLE_SIZE: f32 = 13.0;
/// From the page's upper margin to the names of the columns.
const TITLE_ROOM: f32 = 26.0;
/// From the lower margin to the last row.
const FOOT_ROOM: f32 = 16.0;
/// A column of text is not wider than this, nor narrower than that where room is short.
const WIDEST: f32 = 230.0;
const NARROW: f32 = 58.0;
const A4: (f32, f32) = (595.0, 842.0);
const A3: (f32, f32) = (842.0, 1191.0);
/// The longest side that a page may have (ISO 32000-1, Annex C).
const LONGEST: f32 = 14_400.0;
/// Lines of one cell; what does not fit is left out and marked so.
const MAX_LINES: usize = 36;
/// Pages below one node of the tree of pages.
const BRANCH: usize = 200;
/// A document's table has ten digits for a place.
const MAX_BYTES: u64 = 9_999_999_999;

/// A font as far as it was used.
struct Font {
    data: &'static [u8],
    face: Face<'static>,
    name: &'static str,
    known: HashMap<char, (u16, f32)>,
    /// The document has only these glyphs, under new numbers; width (in thousandths of the size) and character of each.
    remapper: GlyphRemapper,
    used: Vec<(f32, Option<char>)>,
}

impl Font {
    fn new(data: &'static [u8], name: &'static str) -> Result<Self, ExportError> {
        let face = Face::parse(data, 0).map_err(io::Error::other)?;
        let mut font = Self {
            data,
            face,
            name,
            known: HashMap::new(),
            remapper: GlyphRemapper::new(),
            used: Vec::new(),
        };
        // The sign for a character that the font does not have.
        font.used.push((font.thousandths(0), None));
        Ok(font)
    }

    fn thousandths(&self, glyph: u16) -> f32 {
        let advance = self
            .face
            .glyph_hor_advance(ttf_parser::GlyphId(glyph))
            .unwrap_or(0);
        f32::from(advance) * 1000.0 / f32::from(self.face.units_per_em())
    }

    /// Number and width of a character.
    fn glyph(&mut self, c: char) -> (u16, f32) {
        if let Some(known) = self.known.get(&c) {
            return *known;
        }
        let found = self.face.glyph_index(c).map_or(0, |g| g.0);
        let width = self.thousandths(found);
        let new = self.remapper.remap(found);
        if usize::from(new) == self.used.len() {
            self.used.push((width, Some(c)));
        }
        self.known.insert(c, (new, width));
        (new, width)
    }

    fn width(&mut self, text: &str, size: f32) -> f32 {
        text.chars().map(|c| self.glyph(c).1).sum::<f32>() * size / 1000.0
    }

    /// A text as its glyphs' numbers, two bytes each.
    fn encode(&mut self, text: &str) -> Vec<u8> {
        text.chars().flat_map(|c| self.glyph(c).0.to_be_bytes()).collect()
    }

    /// Breaks a text into lines of some width, between words where that is possible.
    fn wrap(&mut self, text: &str, width: f32) -> Vec<String> {
        let room = width * 1000.0 / SIZE;
        let mut lines: Vec<String> = Vec::new();
        for part in text.split(['\n', '\r', '\u{2028}']) {
            if part.is_empty() && text.len() > 1 {
                continue;
            }
            let (mut line, mut used) = (String::new(), 0.0);
            // Where the line can be broken, and its width up to there.
            let mut gap: Option<(usize, f32)> = None;
            for c in part.chars().map(|c| if c.is_control() { ' ' } else { c }) {
                let wide = self.glyph(c).1;
                if used + wide > room && !line.is_empty() {
                    if c == ' ' {
                        lines.push(std::mem::take(&mut line));
                        (used, gap) = (0.0, None);
                        continue;
                    }
                    let rest = match gap.take() {
                        Some((at, before)) => {
                            let rest = line[at..].to_string();
                            line.truncate(at);
                            used -= before;
                            rest
                        }
                        None => {
                            used = 0.0;
                            String::new()
                        }
                    };
                    lines.push(std::mem::replace(&mut line, rest));
                }
                line.push(c);
                used += wide;
                if matches!(c, ' ' | '-' | '/' | ',' | ';') {
                    gap = Some((line.len(), used));
                }
                if lines.len() > MAX_LINES {
                    break;
                }
            }
            lines.push(line);
            if lines.len() > MAX_LINES {
                lines.truncate(MAX_LINES);
                if let Some(last) = lines.last_mut() {
                    last.pop();
                    last.push('…');
                }
                break;
            }
        }
        for line in &mut lines {
            line.truncate(line.trim_end().len());
        }
        lines
    }
}

/// The document being written: where each object lies, by its number.
struct Document<W: Write> {
    out: W,
    at: u64,
    places: Vec<u64>,
}

impl<W: Write> Document<W> {
    fn new(mut out: W) -> Result<Self, ExportError> {
        // Bytes beyond ASCII tell programs that this is not text.
        let head = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n";
        out.write_all(head)?;
        Ok(Self {
            out,
            at: head.len() as u64,
            places: Vec::new(),
        })
    }

    /// The number of an object that is written later.
    fn reserve(&mut self) -> Ref {
        self.places.push(0);
        Ref::new(i32::try_from(self.places.len()).unwrap_or(i32::MAX))
    }

    /// Writes a chunk of one object.
    fn put(&mut self, id: Ref, chunk: &Chunk) -> Result<(), ExportError> {
        let bytes = chunk.as_bytes();
        if self.at + bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::other("the document is too large").into());
        }
        if let Some(place) = usize::try_from(id.get() - 1)
            .ok()
            .and_then(|n| self.places.get_mut(n))
        {
            *place = self.at;
        }
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn stream(&mut self, id: Ref, data: &[u8]) -> Result<(), ExportError> {
        let packed = pack(data)?;
        let mut chunk = Chunk::new();
        chunk.stream(id, &packed).filter(Filter::FlateDecode);
        self.put(id, &chunk)
    }

    /// Writes the table of objects and what leads to it.
    fn finish(mut self, catalog: Ref, info: Ref) -> Result<(), ExportError> {
        let count = self.places.len() + 1;
        write!(self.out, "xref\n0 {count}\n0000000000 65535 f \n")?;
        for place in &self.places {
            writeln!(self.out, "{place:010} 00000 n ")?;
        }
        let (catalog, info, at) = (catalog.get(), info.get(), self.at);
        write!(
            self.out,
            "trailer\n<< /Size {count} /Root {catalog} 0 R /Info {info} 0 R >>\nstartxref\n{at}\n%%EOF\n"
        )?;
        self.out.flush()?;
        Ok(())
    }
}

fn pack(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut packer = ZlibEncoder::new(Vec::with_capacity(data.len() / 2), Compression::fast());
    packer.write_all(data)?;
    packer.finish()
}

/// A value as people read it.
fn shown(cell: &Cell, kind: ColumnType) -> String {
    match cell {
        Cell::Int(ms) if kind.is_time() => {
            let form = if kind == ColumnType::Date {
                "%Y-%m-%d"
            } else {
                "%Y-%m-%d %H:%M:%S"
            };
            jiff::Timestamp::from_millisecond(*ms)
                .map_or_else(|_| ms.to_string(), |t| t.strftime(form).to_string())
        }
        cell => cell.text(),
    }
}

fn is_right(kind: ColumnType) -> bool {
    matches!(kind, ColumnType::Number | ColumnType::Amount)
}

/// How wide columns are and how large a page is.
struct Layout {
    page: (f32, f32),
    widths: Vec<f32>,
}

impl Layout {
    /// `natural` is how wide each column would like to be, without the space around.
    fn new(columns: &[Shown], natural: &[f32]) -> Self {
        let natural: Vec<f32> = natural.iter().map(|w| w + 2.0 * PAD_X + 0.5).collect();
        let least: Vec<f32> = columns
            .iter()
            .zip(&natural)
            .map(|(column, wide)| match column.kind {
                ColumnType::String | ColumnType::ImageLink => wide.min(NARROW),
                // Numbers and days are not broken.
                _ => *wide,
            })
            .collect();
        let (wish, need): (f32, f32) = (natural.iter().sum(), least.iter().sum());
        let inner = |width: f32| width - 2.0 * MARGIN;
        if wish <= inner(A4.0) {
            return Self {
                page: A4,
                widths: natural,
            };
        }
        let page = if need <= inner(A4.1) * 0.8 || wish <= inner(A4.1) {
            (A4.1, A4.0)
        } else if need <= inner(A3.1) {
            (A3.1, A3.0)
        } else {
            ((need + 2.0 * MARGIN).min(LONGEST), A3.0)
        };
        let room = inner(page.0);
        let widths = if wish <= room {
            natural
        } else if need <= room {
            let share = (room - need) / (wish - need);
            least
                .iter()
                .zip(&natural)
                .map(|(l, n)| l + (n - l) * share)
                .collect()
        } else {
            least.iter().map(|w| w * room / need).collect()
        };
        Self { page, widths }
    }
}

struct Writer<'a, W: Write> {
    document: Document<W>,
    plain: Font,
    bold: Font,
    columns: &'a [Shown],
    title: &'a str,
    made: String,
    layout: Layout,
    heads: Vec<Vec<String>>,
    resources: Ref,
    root: Ref,
    branches: Vec<(Ref, Vec<Ref>)>,
    content: Content,
    /// Where the next row begins, from below.
    y: f32,
    pages: usize,
}

impl<W: Write> Writer<'_, W> {
    fn text(content: &mut Content, font: &mut Font, size: f32, x: f32, y: f32, text: &str) {
        let encoded = font.encode(text);
        let name: &[u8] = if font.data.as_ptr() == BOLD.as_ptr() {
            b"B"
        } else {
            b"P"
        };
        content
            .begin_text()
            .set_font(Name(name), size)
            .next_line(x, y)
            .show(Str(&encoded))
            .end_text();
    }

    fn begin_page(&mut self) {
        let (width, height) = self.layout.page;
        let mut content = Content::new();
        let top = height - MARGIN;
        let made_width = self.plain.width(&self.made, SIZE);
        let made_at = width - MARGIN - made_width;
        let title = self
            .bold
            .wrap(self.title, (made_at - MARGIN - 12.0) * SIZE / TITLE_SIZE)
            .into_iter()
            .next()
            .unwrap_or_default();
        Self::text(
            &mut content,
            &mut self.bold,
            TITLE_SIZE,
            MARGIN,
            top - 11.0,
            &title,
        );
        let made = self.made.clone();
        Self::text(&mut content, &mut self.plain, SIZE, made_at, top - 11.0, &made);
        // The names of the columns, on grey.
        let lines = self.heads.iter().map(Vec::len).max().unwrap_or(1);
        #[allow(clippy::cast_precision_loss)]
        let tall = lines as f32 * LINE + 2.0 * PAD_Y;
        let head = top - TITLE_ROOM;
        let whole: f32 = self.layout.widths.iter().sum();
        content
            .set_fill_gray(0.92)
            .rect(MARGIN, head - tall, whole, tall)
            .fill_nonzero()
            .set_fill_gray(0.0);
        let mut x = MARGIN;
        for ((wide, lines), column) in self.layout.widths.iter().zip(&self.heads).zip(self.columns) {
            Self::cell(
                &mut content,
                &mut self.bold,
                (x, head),
                *wide,
                lines,
                is_right(column.kind),
            );
            x += wide;
        }
        content.set_stroke_gray(0.8).set_line_width(0.4);
        self.content = content;
        self.y = head - tall;
        self.pages += 1;
    }

    /// Puts the lines of a cell whose upper left corner is given.
    fn cell(
        content: &mut Content,
        font: &mut Font,
        at: (f32, f32),
        wide: f32,
        lines: &[String],
        right: bool,
    ) {
        let mut y = at.1 - PAD_Y - SIZE;
        for line in lines {
            let x = if right {
                at.0 + wide - PAD_X - font.width(line, SIZE)
            } else {
                at.0 + PAD_X
            };
            Self::text(content, font, SIZE, x, y, line);
            y -= LINE;
        }
    }

    fn end_page(&mut self) -> Result<(), ExportError> {
        let (width, _) = self.layout.page;
        let mut content = std::mem::replace(&mut self.content, Content::new());
        // How many there are is known at the end: each page shows a picture that is drawn then.
        let number = format!("{} /", self.pages);
        let x = width / 2.0 - 2.0 - self.plain.width(&number, SIZE);
        Self::text(&mut content, &mut self.plain, SIZE, x, MARGIN - 6.0, &number);
        content
            .save_state()
            .transform([1.0, 0.0, 0.0, 1.0, width / 2.0, MARGIN - 6.0])
            .x_object(Name(b"N"))
            .restore_state();
        let stream = self.document.reserve();
        self.document.stream(stream, &content.finish())?;
        let page = self.document.reserve();
        if self
            .branches
            .last()
            .is_none_or(|(_, pages)| pages.len() >= BRANCH)
        {
            self.branches.push((self.document.reserve(), Vec::new()));
        }
        let (width, height) = self.layout.page;
        if let Some((branch, pages)) = self.branches.last_mut() {
            let mut chunk = Chunk::new();
            let mut object = chunk.page(page);
            object
                .parent(*branch)
                .media_box(Rect::new(0.0, 0.0, width, height))
                .contents(stream);
            object.pair(Name(b"Resources"), self.resources);
            object.finish();
            pages.push(page);
            self.document.put(page, &chunk)?;
        }
        Ok(())
    }

    fn row(&mut self, row: &[Cell]) -> Result<(), ExportError> {
        let mut cells: Vec<Vec<String>> = Vec::with_capacity(row.len());
        for ((cell, column), wide) in row.iter().zip(self.columns).zip(&self.layout.widths) {
            let text = shown(cell, column.kind);
            cells.push(match text.is_empty() {
                true => Vec::new(),
                false => self.plain.wrap(&text, wide - 2.0 * PAD_X),
            });
        }
        let lines = cells.iter().map(Vec::len).max().unwrap_or(1).max(1);
        #[allow(clippy::cast_precision_loss)]
        let tall = lines as f32 * LINE + 2.0 * PAD_Y;
        if self.y - tall < MARGIN + FOOT_ROOM {
            self.end_page()?;
            self.begin_page();
        }
        let mut x = MARGIN;
        for ((lines, column), wide) in cells.iter().zip(self.columns).zip(&self.layout.widths) {
            Self::cell(
                &mut self.content,
                &mut self.plain,
                (x, self.y),
                *wide,
                lines,
                is_right(column.kind),
            );
            x += wide;
        }
        self.y -= tall;
        self.content.move_to(MARGIN, self.y).line_to(x, self.y).stroke();
        Ok(())
    }

    fn finish(mut self) -> Result<(), ExportError> {
        self.end_page()?;
        let mut document = self.document;
        // How many pages there are, as a picture.
        let total = self.pages.to_string();
        let mut content = Content::new();
        Self::text(&mut content, &mut self.plain, SIZE, 2.0, 0.0, &total);
        let number = document.reserve();
        let content = content.finish();
        let mut chunk = Chunk::new();
        let mut form = chunk.form_xobject(number, &content);
        form.bbox(Rect::new(0.0, -4.0, 80.0, 12.0));
        form.pair(Name(b"Resources"), self.resources);
        form.finish();
        document.put(number, &chunk)?;

        let (plain, bold) = (
            embed(&mut document, &self.plain)?,
            embed(&mut document, &self.bold)?,
        );
        let mut chunk = Chunk::new();
        let mut dictionary = chunk.indirect(self.resources).dict();
        dictionary
            .insert(Name(b"Font"))
            .dict()
            .pair(Name(b"P"), plain)
            .pair(Name(b"B"), bold);
        dictionary
            .insert(Name(b"XObject"))
            .dict()
            .pair(Name(b"N"), number);
        dictionary.finish();
        document.put(self.resources, &chunk)?;

        for (branch, pages) in &self.branches {
            let mut chunk = Chunk::new();
            let count = i32::try_from(pages.len()).unwrap_or(i32::MAX);
            chunk
                .pages(*branch)
                .parent(self.root)
                .kids(pages.iter().copied())
                .count(count);
            document.put(*branch, &chunk)?;
        }
        let mut chunk = Chunk::new();
        let count = i32::try_from(self.pages).unwrap_or(i32::MAX);
        chunk
            .pages(self.root)
            .kids(self.branches.iter().map(|(b, _)| *b))
            .count(count);
        document.put(self.root, &chunk)?;

        let (catalog, info) = (document.reserve(), document.reserve());
        let mut chunk = Chunk::new();
        let mut dictionary = chunk.indirect(catalog).dict();
        dictionary
            .pair(Name(b"Type"), Name(b"Catalog"))
            .pair(Name(b"Pages"), self.root);
        dictionary
            .insert(Name(b"ViewerPreferences"))
            .dict()
            .pair(Name(b"DisplayDocTitle"), true);
        dictionary.finish();
        document.put(catalog, &chunk)?;
        let mut chunk = Chunk::new();
        let mut dictionary = chunk.indirect(info).dict();
        dictionary
            .pair(Name(b"Title"), TextStr(self.title))
            .pair(Name(b"Producer"), TextStr("Encke"));
        dictionary.finish();
        document.put(info, &chunk)?;
        document.finish(catalog, info)
    }
}

/// Writes a font with the glyphs that were used; answers the object that pages name it by.
fn embed<W: Write>(document: &mut Document<W>, font: &Font) -> Result<Ref, ExportError> {
    let ids = SystemInfo {
        registry: Str(b"Adobe"),
        ordering: Str(b"Identity"),
        supplement: 0,
    };
    // A part of a font has six letters before its name.
    let name = format!("ENCKEA+{}", font.name);
    let name = Name(name.as_bytes());
    let [whole, descendant, descriptor, unicode, file] = std::array::from_fn(|_| document.reserve());

    let mut chunk = Chunk::new();
    chunk
        .type0_font(whole)
        .base_font(name)
        .encoding_predefined(Name(b"Identity-H"))
        .descendant_font(descendant)
        .to_unicode(unicode);
    document.put(whole, &chunk)?;

    let mut chunk = Chunk::new();
    let mut cid = chunk.cid_font(descendant);
    cid.subtype(CidFontType::Type2)
        .base_font(name)
        .system_info(ids)
        .font_descriptor(descriptor)
        .default_width(0.0)
        .cid_to_gid_map_predefined(Name(b"Identity"));
    cid.widths()
        .consecutive(0, font.used.iter().map(|(width, _)| *width));
    cid.finish();
    document.put(descendant, &chunk)?;

    let per = 1000.0 / f32::from(font.face.units_per_em());
    let bounds = font.face.global_bounding_box();
    let scaled = |n: i16| f32::from(n) * per;
    let mut chunk = Chunk::new();
    chunk
        .font_descriptor(descriptor)
        .name(name)
        .flags(FontFlags::NON_SYMBOLIC)
        .bbox(Rect::new(
            scaled(bounds.x_min),
            scaled(bounds.y_min),
            scaled(bounds.x_max),
            scaled(bounds.y_max),
        ))
        .italic_angle(0.0)
        .ascent(scaled(font.face.ascender()))
        .descent(scaled(font.face.descender()))
        .cap_height(scaled(font.face.capital_height().unwrap_or(font.face.ascender())))
        .stem_v(if font.face.is_bold() { 140.0 } else { 80.0 })
        .font_file2(file);
    document.put(descriptor, &chunk)?;

    // What programs need to copy and search the text.
    let mut map = UnicodeCmap::new(Name(b"Encke"), ids);
    for (glyph, (_, c)) in (0u16..).zip(&font.used) {
        if let Some(c) = c {
            map.pair(glyph, *c);
        }
    }
    document.stream(unicode, &map.finish())?;

    let part = subsetter::subset(font.data, 0, &font.remapper).map_err(io::Error::other)?;
    let packed = pack(&part)?;
    let mut chunk = Chunk::new();
    let mut stream = chunk.stream(file, &packed);
    stream.filter(Filter::FlateDecode);
    stream.pair(Name(b"Length1"), i32::try_from(part.len()).unwrap_or(i32::MAX));
    stream.finish();
    document.put(file, &chunk)?;
    Ok(whole)
}

/// Writes a document. `first` hands over the first rows, by which columns are made as wide as they need to be; `each`
/// all of them.
pub(crate) fn to_pdf(
    columns: &[Shown],
    title: &str,
    made: jiff::Timestamp,
    out: impl Write,
    first: impl FnOnce(&mut dyn FnMut(&[Cell]) -> Result<(), ExportError>) -> Result<(), ExportError>,
    each: impl FnOnce(&mut dyn FnMut(&[Cell]) -> Result<(), ExportError>) -> Result<(), ExportError>,
) -> Result<(), ExportError> {
    let (mut plain, mut bold) = (
        Font::new(PLAIN, "DejaVuSansCondensed")?,
        Font::new(BOLD, "DejaVuSansCondensed-Bold")?,
    );
    // A long name is broken rather than making its column wide.
    let mut natural: Vec<f32> = columns
        .iter()
        .map(|c| {
            let longest = c
                .name
                .split(' ')
                .map(|word| bold.width(word, SIZE))
                .fold(0.0, f32::max);
            bold.width(&c.name, SIZE).min(longest.max(80.0)).min(WIDEST)
        })
        .collect();
    first(&mut |row| {
        for ((cell, column), wide) in row.iter().zip(columns).zip(&mut natural) {
            let text = shown(cell, column.kind);
            for line in text.lines() {
                *wide = wide.max(plain.width(line, SIZE).min(WIDEST));
            }
        }
        Ok(())
    })?;
    let layout = Layout::new(columns, &natural);
    let heads = columns
        .iter()
        .zip(&layout.widths)
        .map(|(c, wide)| bold.wrap(&c.name, wide - 2.0 * PAD_X))
        .collect();
    let mut document = Document::new(out)?;
    let (resources, root) = (document.reserve(), document.reserve());
    let mut writer = Writer {
        document,
        plain,
        bold,
        columns,
        title,
        made: made.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        layout,
        heads,
        resources,
        root,
        branches: Vec::new(),
        content: Content::new(),
        y: 0.0,
        pages: 0,
    };
    writer.begin_page();
    each(&mut |row| writer.row(row))?;
    writer.finish()
}
