package rules

// DiffTests notes, for people, which tests come and which go; they are told apart
// by file and name.
func DiffTests(from, to []Test) []Change {
	index := func(all []Test) map[string]*Test {
		out := map[string]*Test{}
		for i := range all {
			out[all[i].File+": "+all[i].Name] = &all[i]
		}
		return out
	}
	a, b := index(from), index(to)
	d := &differ{}
	for _, key := range keysOfBoth(a, b) {
		c := Change{Group: ChangeTests, What: "test"}
		switch x, y := a[key], b[key]; {
		case x == nil:
			c.Name, c.Change, c.File, c.Line = y.Name, wasAdded, y.File, y.Line
			d.say(c, "added, in %s", y.File)
		case y == nil:
			c.Name, c.Change, c.File, c.Line = x.Name, wasRemoved, x.File, x.Line
			d.say(c, "removed, of %s", x.File)
		}
	}
	return d.changes
}
