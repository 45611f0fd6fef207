package rules

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"strings"
)

// data says of which prefixes the files of data/ tell another country. It looks
// at all files together, as country_of does.
func (d *differ) data() {
	asks := func(m mentions) bool { return m.countries }
	group := groupOfBoth(d.from.groupOfReaders(asks), d.to.groupOfReaders(asks))
	from, to := d.from.prefixes(), d.to.prefixes()
	counts := map[string]int{}
	for _, prefix := range keysOfBoth(from, to) {
		x, y := from[prefix], to[prefix]
		c := Change{Group: group, What: "data", Name: prefix, Change: wasChanged, From: x, To: y}
		switch {
		case x == y:
			continue
		case x == "":
			c.Change = wasAdded
		case y == "":
			c.Change = wasRemoved
		}
		if counts[c.Change]++; counts[c.Change] > maxListed {
			continue
		}
		switch c.Change {
		case wasAdded:
			d.say(c, "added: %s", y)
		case wasRemoved:
			d.say(c, "removed; it was %s", x)
		default:
			d.say(c, "from %s to %s", x, y)
		}
	}
	for _, what := range []string{wasAdded, wasChanged, wasRemoved} {
		if n := counts[what] - maxListed; n > 0 {
			d.say(Change{Group: group, What: "data", Change: what}, "prefixes %s: %d more", what, n)
		}
	}
}

// prefixes are the countries of the files of data/, by prefix.
func (w *wording) prefixes() map[string]string {
	out := map[string]string{}
	for name, content := range w.set.files {
		if !strings.HasPrefix(name, "data/") {
			continue
		}
		rows := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(content, []byte("\ufeff"))))
		rows.Comment, rows.FieldsPerRecord = '#', -1
		all, _ := rows.ReadAll() // they have loaded
		for i, row := range all {
			if len(row) != 2 || i == 0 && strings.EqualFold(row[1], "country") {
				continue
			}
			out[prefixWord(row[0])] = row[1]
		}
	}
	return out
}

// prefixWord writes a prefix in one form.
func prefixWord(prefix string) string {
	if p, ok := parseNet(prefix); ok && strings.ContainsAny(prefix, ".:") {
		return p.String()
	}
	return fmt.Sprintf("BIN %s", prefix)
}
