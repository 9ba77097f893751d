//! A report as HTML and as plain text, of one description.

use encke_store::MailContent;
use std::fmt::Write as _;

/// How something is meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tone {
    #[default]
    Plain,
    Good,
    Warn,
    Bad,
}

impl Tone {
    /// Colour of text, on white (contrast 4.5 and more).
    fn colour(self) -> &'static str {
        match self {
            Tone::Plain => "#1f2328",
            Tone::Good => "#116329",
            Tone::Warn => "#7d4e00",
            Tone::Bad => "#a40e26",
        }
    }
}

/// A cell of a table.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(super) fn new(text: String, tone: Tone) -> Self {
        Self { text, tone }
    }

    pub(super) fn plain(text: String) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// A part of a report.
#[derive(Clone, Debug)]
pub(super) enum Block {
    Text(String),
    Table {
        heading: String,
        head: Vec<String>,
        rows: Vec<Vec<Cell>>,
    },
    /// Lines with their severity.
    Log {
        heading: String,
        lines: Vec<(String, String)>,
    },
}

/// A report.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub subject: String,
    pub title: String,
    /// Name and value.
    pub facts: Vec<(String, String)>,
    pub blocks: Vec<Block>,
    pub foot: String,
    /// The time zone that times are told in.
    pub zone: String,
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

const CELL: &str =
    "padding:4px 10px 4px 0;text-align:left;vertical-align:top;border-bottom:1px solid #d8dee4";

impl Document {
    /// The mail that says this.
    pub(super) fn content(&self) -> MailContent {
        MailContent {
            subject: self.subject.clone(),
            plain: self.plain(),
            html: self.html(),
            attachments: Vec::new(),
        }
    }

    /// As HTML, with its style in it and nothing fetched from anywhere.
    pub(super) fn html(&self) -> String {
        let mut out = String::with_capacity(4096);
        // Writing to a string does not fail.
        let _ = write!(
            out,
            "<!doctype html><html><head><meta charset=\"utf-8\"><title>{}</title></head><body style=\"margin:0;padding:20px;font:14px/1.5 -apple-system,'Segoe UI',Roboto,sans-serif;color:#1f2328;background:#fff\"><h1 style=\"font-size:20px;margin:0 0 12px\">{}</h1>",
            escaped(&self.subject),
            escaped(&self.title)
        );
        if !self.facts.is_empty() {
            out += "<table style=\"border-collapse:collapse;margin:0 0 16px\">";
            for (name, value) in &self.facts {
                let _ = write!(
                    out,
                    "<tr><th style=\"{CELL};font-weight:normal;color:#59636e\">{}</th><td style=\"{CELL}\">{}</td></tr>",
                    escaped(name),
                    escaped(value)
                );
            }
            out += "</table>";
        }
        for block in &self.blocks {
            block.html(&mut out);
        }
        let _ = write!(
            out,
            "<p style=\"color:#59636e;font-size:12px\">{} ({})</p></body></html>",
            escaped(&self.foot),
            escaped(&self.zone)
        );
        out
    }

    /// As plain text.
    pub(super) fn plain(&self) -> String {
        let mut out = format!("{}\n\n", self.title);
        let width = self
            .facts
            .iter()
            .map(|(n, _)| n.chars().count())
            .max()
            .unwrap_or(0);
        for (name, value) in &self.facts {
            let _ = writeln!(out, "{}  {value}", padded(name, width));
        }
        for block in &self.blocks {
            out.push('\n');
            block.plain(&mut out);
        }
        let _ = write!(out, "\n-- \n{} ({})\n", self.foot, self.zone);
        out
    }
}

fn padded(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.chars().count());
    format!("{text}{}", " ".repeat(missing))
}

fn heading(out: &mut String, text: &str) {
    if !text.is_empty() {
        let _ = write!(
            out,
            "<h2 style=\"font-size:16px;margin:16px 0 8px\">{}</h2>",
            escaped(text)
        );
    }
}

impl Block {
    fn html(&self, out: &mut String) {
        match self {
            Block::Text(text) => {
                let _ = write!(out, "<p>{}</p>", escaped(text));
            }
            Block::Table {
                heading: title,
                head,
                rows,
            } => {
                heading(out, title);
                *out += "<table style=\"border-collapse:collapse;margin:0 0 16px\"><tr>";
                for name in head {
                    let _ = write!(out, "<th style=\"{CELL};color:#59636e\">{}</th>", escaped(name));
                }
                *out += "</tr>";
                for row in rows {
                    *out += "<tr>";
                    for cell in row {
                        let weight = if cell.tone == Tone::Plain {
                            ""
                        } else {
                            ";font-weight:600"
                        };
                        let _ = write!(
                            out,
                            "<td style=\"{CELL};color:{}{weight}\">{}</td>",
                            cell.tone.colour(),
                            escaped(&cell.text)
                        );
                    }
                    *out += "</tr>";
                }
                *out += "</table>";
            }
            Block::Log {
                heading: title,
                lines,
            } => {
                heading(out, title);
                *out += "<pre style=\"font:12px/1.5 ui-monospace,Menlo,Consolas,monospace;white-space:pre-wrap;background:#f6f8fa;padding:10px;margin:0 0 16px\">";
                for (severity, line) in lines {
                    let tone = match severity.as_str() {
                        "E" => Tone::Bad,
                        "W" => Tone::Warn,
                        _ => Tone::Plain,
                    };
                    let _ = writeln!(
                        out,
                        "<span style=\"color:{}\">{}</span>",
                        tone.colour(),
                        escaped(line)
                    );
                }
                *out += "</pre>";
            }
        }
    }

    fn plain(&self, out: &mut String) {
        match self {
            Block::Text(text) => {
                let _ = writeln!(out, "{text}");
            }
            Block::Table { heading, head, rows } => {
                if !heading.is_empty() {
                    let _ = writeln!(out, "{heading}\n");
                }
                let mut widths: Vec<usize> = head.iter().map(|h| h.chars().count()).collect();
                for row in rows {
                    for (width, cell) in widths.iter_mut().zip(row) {
                        *width = (*width).max(cell.text.chars().count());
                    }
                }
                let line = |cells: &mut dyn Iterator<Item = &str>| {
                    let all: Vec<String> = cells.zip(&widths).map(|(c, w)| padded(c, *w)).collect();
                    all.join("  ").trim_end().to_string()
                };
                let _ = writeln!(out, "{}", line(&mut head.iter().map(String::as_str)));
                for row in rows {
                    let _ = writeln!(out, "{}", line(&mut row.iter().map(|c| c.text.as_str())));
                }
            }
            Block::Log { heading, lines } => {
                let _ = writeln!(out, "{heading}\n");
                for (severity, line) in lines {
                    let _ = writeln!(out, "{severity}  {line}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_named_is_text_and_never_markup() {
        let evil = "<script>alert(1)</script> & \"x\"";
        let document = Document {
            subject: evil.into(),
            title: evil.into(),
            facts: vec![(evil.into(), evil.into())],
            blocks: vec![
                Block::Text(evil.into()),
                Block::Table {
                    heading: evil.into(),
                    head: vec![evil.into()],
                    rows: vec![vec![Cell::plain(evil.into())]],
                },
                Block::Log {
                    heading: evil.into(),
                    lines: vec![("E".into(), evil.into())],
                },
            ],
            foot: evil.into(),
            zone: evil.into(),
        };
        let html = document.html();
        assert!(!html.contains("<script>"), "{html}");
        assert_eq!(html.matches("&lt;script&gt;").count(), 12, "{html}");
        assert!(document.plain().contains(evil));
    }
}
