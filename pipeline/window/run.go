package window

// A run is several new transactions that are folded together, entity kind by
// entity kind. Within a kind they keep their order, and kinds know nothing of
// each other, so the values are those of folding one after the other.
//
// What this buys is time: nearly all that a fold costs is waiting for memory,
// five to ten places for each entity, which are cold when millions of entities
// take turns. A loop that only reads those places for all transactions of a run
// lets the processor wait for many of them at once; the fold then finds them in
// its cache. Folding one by one takes more than twice as long (benchmarks/results).
type run struct {
	items    []*Item
	numbers  []uint32 // of the entries of items
	keys     []uint64 // of one kind's entity of each item, 0: it names none
	entities []uint32 // their numbers
	touched  uint64   // what the reading loops have read, so that they are not optimised away
}

// foldRun folds the entries of a run and reads their features.
func (s *Embedded) foldRun(r *run) {
	for _, f := range s.folders {
		r.find(s, f)
		r.touch(f)
		for i, it := range r.items {
			if r.keys[i] != 0 {
				s.foldInto(f, r.entities[i], r.numbers[i], it.Values)
			}
		}
	}
}

// lookAhead reads where a transaction will be looked up.
func (s *Embedded) lookAhead(h TxHash) {
	if at := s.byHash.Peek(h.Lo); at != nil {
		s.run.touched += uint64(*at)
	}
}

// find looks up the entities of one kind.
func (r *run) find(s *Embedded, f *folder) {
	r.keys, r.entities = r.keys[:0], r.entities[:0]
	for _, n := range r.numbers {
		key := f.keyOf(s.key, s.entry(n))
		if at := f.index.Peek(key); at != nil {
			r.touched += uint64(*at)
		}
		r.keys = append(r.keys, key)
	}
	for i, key := range r.keys {
		var entity uint32
		if key != 0 {
			entity = f.open(key, s.entry(r.numbers[i]).time)
		}
		r.entities = append(r.entities, entity)
	}
}

// touch reads what the folds of the entities of one kind begin with: the folds
// and their state, then what these point to, then the transactions that will
// leave a window.
func (r *run) touch(f *folder) {
	for i, n := range r.entities {
		if r.keys[i] != 0 {
			w := f.words(n)
			r.touched += uint64(f.foldOf(n).at) + w[0] + w[len(w)-1]
		}
	}
	for i, n := range r.entities {
		if r.keys[i] == 0 || f.foldOf(n).events.n == 0 {
			continue
		}
		fd := f.foldOf(n)
		r.touched += uint64(fd.events.at(f.rings, fd.events.end()-1).time)
		w := f.words(n)
		for s := range f.spans {
			if oldest := w[2*s]; oldest < fd.events.end() {
				r.touched += uint64(fd.events.at(f.rings, oldest).time)
			}
		}
		for _, at := range f.distinct {
			if slots, _ := f.sets.slots(w[at:]); slots != nil {
				r.touched += slots[0].value
			}
		}
	}
	if len(f.reading) == 0 {
		return
	}
	for i, n := range r.entities {
		if r.keys[i] == 0 || f.foldOf(n).events.n == 0 {
			continue
		}
		fd, w := f.foldOf(n), f.words(n)
		for _, s := range f.reading {
			if oldest := w[2*s]; f.spans[s].calendar == NotCalendar && oldest < fd.events.end() {
				el := fd.events.at(f.rings, oldest)
				if low, _ := f.spans[s].bounds(f.h.entry(r.numbers[i]).time); el.time <= low {
					leaving := f.h.entry(el.number())
					r.touched += leaving.refs[Device] + uint64(leaving.outcomes)
				}
			}
		}
	}
}
