package explain

import (
	"slices"
	"strings"
)

// shownNear is how many ids are suggested.
const shownNear = 3

// near keeps the ids that look most like one that is not there: those that begin
// and end as it does. What is cut off, or written wrong in one place, is found so.
type near struct {
	asked string
	best  []likeness // the nearest first
}

type likeness struct {
	id   string
	same int // characters, at both ends
}

// add looks at an id of the file.
func (n *near) add(id string) {
	same := alike(id, n.asked)
	if 2*same < len(n.asked) || len(n.best) == shownNear && same <= n.best[shownNear-1].same {
		return
	}
	if slices.ContainsFunc(n.best, func(l likeness) bool { return l.id == id }) {
		return
	}
	at := len(n.best)
	for at > 0 && n.best[at-1].same < same {
		at--
	}
	n.best = slices.Insert(n.best, at, likeness{strings.Clone(id), same})
	n.best = n.best[:min(len(n.best), shownNear)]
}

func (n *near) nearest() (ids []string) {
	for _, l := range n.best {
		ids = append(ids, l.id)
	}
	return ids
}

// alike counts the bytes that two texts share at their beginnings and their ends.
func alike(a, b string) int {
	most, begin := min(len(a), len(b)), 0
	for begin < most && a[begin] == b[begin] {
		begin++
	}
	end := 0
	for end < most-begin && a[len(a)-1-end] == b[len(b)-1-end] {
		end++
	}
	return begin + end
}
