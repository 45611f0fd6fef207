package window

// A tally counts how often each value stands in a window: open addressing with
// linear probing, deletion by shifting back. Its head is two words of an
// entity's state, its slots are a block of an arena, so that nothing here is a
// pointer. A head of zeros is an empty tally.
const (
	tallyUsed  = iota // how many values there are
	tallyBlock        // 0: no block yet; or the block's address, and above it its class plus one
	tallyWords
)

type tallySlot struct {
	value uint64
	count uint64 // 0: the slot is free
}

// tallies is the arena of the slots of all tallies of one store. Values are
// keyed hashes: their low bits are spread.
type tallies struct{ arena[tallySlot] }

// slots returns the slots of a tally and their class.
func (t *tallies) slots(w []uint64) (slots []tallySlot, class uint8) {
	if w[tallyBlock] == 0 {
		return nil, 0
	}
	class = uint8(w[tallyBlock]>>32) - 1
	return t.block(uint32(w[tallyBlock]), class), class
}

func (t *tallies) add(w []uint64, value uint64) {
	slots, class := t.slots(w)
	if slots == nil {
		slots = t.resize(w, 0)
	} else if 4*w[tallyUsed] >= 3*uint64(len(slots)) {
		slots = t.resize(w, class+1)
	}
	i := slotOf(slots, value)
	if slots[i].count == 0 {
		slots[i].value = value
		w[tallyUsed]++
	}
	slots[i].count++
}

func (t *tallies) remove(w []uint64, value uint64) {
	slots, class := t.slots(w)
	i := slotOf(slots, value)
	if slots[i].count--; slots[i].count > 0 {
		return
	}
	w[tallyUsed]--
	mask := len(slots) - 1
	for j := (i + 1) & mask; slots[j].count > 0; j = (j + 1) & mask {
		// The value at j may move to the hole at i if its home is not between them.
		if home := int(slots[j].value) & mask; (j-home)&mask >= (j-i)&mask {
			slots[i], i = slots[j], j
		}
	}
	slots[i] = tallySlot{}
	switch used := w[tallyUsed]; {
	case used == 0:
		t.release(uint32(w[tallyBlock]), class)
		w[tallyBlock] = 0
	case class > 2 && 8*used < uint64(len(slots)):
		t.resize(w, class-1)
	}
}

// resize moves a tally to a block of another class.
func (t *tallies) resize(w []uint64, class uint8) []tallySlot {
	old, oldClass := t.slots(w)
	address := t.alloc(class)
	slots := t.block(address, class)
	clear(slots)
	for _, s := range old {
		if s.count > 0 {
			slots[slotOf(slots, s.value)] = s
		}
	}
	if old != nil {
		t.release(uint32(w[tallyBlock]), oldClass)
	}
	w[tallyBlock] = uint64(address) | uint64(class+1)<<32
	return slots
}

// slotOf finds the place of a value, or the free one where it belongs.
func slotOf(slots []tallySlot, value uint64) int {
	mask := len(slots) - 1
	i := int(value) & mask
	for slots[i].count > 0 && slots[i].value != value {
		i = (i + 1) & mask
	}
	return i
}

// drop gives the slots of a tally back.
func (t *tallies) drop(w []uint64) {
	if slots, class := t.slots(w); slots != nil {
		t.release(uint32(w[tallyBlock]), class)
	}
	w[tallyUsed], w[tallyBlock] = 0, 0
}
