// Narrows the list of everything while somebody types; "/" jumps to the field.
const field = document.getElementById('search');
const found = document.getElementById('found');

function show() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  found.replaceChildren();
  found.hidden = words.length === 0;
  if (found.hidden) return;
  const hits = ENTRIES.filter(([name, , more]) => {
    const text = `${name} ${more}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  for (const [name, target, more] of hits.slice(0, 40)) {
    const item = document.createElement('li');
    const link = document.createElement('a');
    link.href = target;
    link.textContent = name;
    const note = document.createElement('small');
    note.textContent = more;
    item.append(link, ' ', note);
    found.append(item);
  }
  if (hits.length === 0) {
    const item = document.createElement('li');
    item.textContent = 'Nothing found';
    found.append(item);
  }
}

field.addEventListener('input', show);
document.addEventListener('keydown', (event) => {
  if (event.key === '/' && document.activeElement !== field) {
    event.preventDefault();
    field.focus();
  }
  if (event.key === 'Escape') {
    field.value = '';
    show();
  }
});
