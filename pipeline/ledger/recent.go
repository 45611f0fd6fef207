package ledger

// recent holds the bytes of the latest decisions in one ring: what is put
// overwrites the oldest.
type recent struct {
	ceiling int
	ring    []byte // ceiling bytes, made with the first decision
	end     uint64 // where the next decision goes, counted from the first ever; never in two parts
}

// place is where a decision is in a ring. The zero place is nowhere.
type place struct {
	end  uint64 // after its last byte, counted as recent.end
	size uint32
}

// put keeps a decision, unless it is larger than the ring.
func (r *recent) put(decision []byte) place {
	if len(decision) > r.ceiling {
		return place{}
	}
	if r.ring == nil {
		r.ring = make([]byte, r.ceiling)
	}
	size := uint64(len(r.ring))
	if left := size - r.end%size; left < uint64(len(decision)) {
		r.end += left // nothing is kept in two parts
	}
	copy(r.ring[r.end%size:], decision)
	r.end += uint64(len(decision))
	return place{r.end, uint32(len(decision))}
}

// holds reports whether a decision is still there.
func (r *recent) holds(p place) bool {
	return p.size > 0 && r.end-p.end+uint64(p.size) <= uint64(len(r.ring))
}

// at returns the bytes of a decision that recent holds, until the next put.
func (r *recent) at(p place) []byte {
	from := (p.end - uint64(p.size)) % uint64(len(r.ring))
	return r.ring[from : from+uint64(p.size)]
}
