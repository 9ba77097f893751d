#!/usr/bin/env bash
# Every crate in the program must come under a licence that allows this use. Where a crate names none but brings its text,
# the text was read: webpki's is ISC.
set -euo pipefail
cd "$(dirname "$0")/.."
allowed='MIT|Apache-2\.0( WITH LLVM-exception)?|BSD-[23]-Clause|ISC|Zlib|0BSD|Unlicense|CC0-1\.0|BSL-1\.0|Unicode-3\.0|MPL-2\.0|CDLA-Permissive-2\.0|MIT-0'
bad=$(cargo metadata --format-version 1 --locked --filter-platform x86_64-unknown-linux-gnu |
  jq -r '.packages[] | select(.source != null) | "\(.name) \(.version)\t\(.license // {webpki: "ISC"}[.name] // "none")"' |
  awk -F '\t' -v allowed="^($allowed)$" '{
    text = $2; gsub(/[()]/, "", text); gsub(/\//, " OR ", text); ok = 0
    n = split(text, options, " OR ")
    for (i = 1; i <= n; i++) {
      whole = 1; m = split(options[i], parts, " AND ")
      for (j = 1; j <= m; j++) { gsub(/^ +| +$/, "", parts[j]); if (parts[j] !~ allowed) whole = 0 }
      if (whole) ok = 1
    }
    if (!ok) print $0 }')
[ -z "$bad" ] || { echo "Crates under other licences:"; echo "$bad"; exit 1; }
