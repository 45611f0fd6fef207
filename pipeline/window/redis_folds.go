package window

// A fold is loaded in two steps, so that a load that fails costs nothing, and so
// that Peek never sees half of a log: begin makes an empty fold, hidden, beside
// the one that was there; then it is read; then loaded lets it take that one's
// place, or unload the old one keep it.

// begin makes an empty fold, which is to be loaded.
func (s *Redis) begin(l *logged, key uint64) uint32 {
	before := uint32(0)
	if n, ok := l.find(key); ok {
		before = n + 1
	}
	n := l.folder.begin(key)
	for int(n) >= len(l.side) {
		l.side = append(l.side, side{})
	}
	l.side[n] = side{trust: s.trust, loading: true, before: before}
	return n
}

// loaded lets a fold that was read be the one of its entity.
func (l *logged) loaded(n uint32) {
	if before := l.side[n].before; before > 0 {
		l.discard(before - 1)
	}
	l.side[n].loading, l.side[n].before = false, 0
}

// unload gives up a fold that could not be read to its end. The one that was there
// before is the entity's again.
func (l *logged) unload(n uint32) {
	key, before := l.foldOf(n).key, l.side[n].before
	if before == 0 {
		l.evict(n)
		return
	}
	l.discard(n)
	at, _ := l.index.Add(key, key)
	*at = before - 1
}

// shown returns the fold of an entity that Peek may look at.
func (l *logged) shown(key uint64) (n uint32, ok bool) {
	n, ok = l.find(key)
	if ok && l.side[n].loading {
		n, ok = l.side[n].before-1, l.side[n].before > 0
	}
	return n, ok
}
