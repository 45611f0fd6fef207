package window

// tally counts how often each value stands in a window: open addressing with
// linear probing, deletion by shifting back, no pointers inside. The zero tally
// is empty.
type tally struct {
	slots []tallySlot
	used  int
}

type tallySlot struct {
	value uint64
	count uint32 // 0: the slot is free
}

func (t *tally) add(value uint64) {
	if 4*t.used >= 3*len(t.slots) {
		t.resize(max(4, 2*len(t.slots)))
	}
	i := t.slot(value)
	if t.slots[i].count == 0 {
		t.slots[i].value = value
		t.used++
	}
	t.slots[i].count++
}

func (t *tally) remove(value uint64) {
	i := t.slot(value)
	if t.slots[i].count--; t.slots[i].count > 0 {
		return
	}
	t.used--
	mask := len(t.slots) - 1
	for j := (i + 1) & mask; t.slots[j].count > 0; j = (j + 1) & mask {
		// The value at j may move to the hole at i if its home is not between them.
		if home := int(t.slots[j].value) & mask; (j-home)&mask >= (j-i)&mask {
			t.slots[i], i = t.slots[j], j
		}
	}
	t.slots[i] = tallySlot{}
	if len(t.slots) > 16 && 8*t.used < len(t.slots) {
		t.resize(len(t.slots) / 2)
	}
}

// slot finds the place of a value, or the free one where it belongs. Values are
// keyed hashes: their low bits are spread.
func (t *tally) slot(value uint64) int {
	mask := len(t.slots) - 1
	i := int(value) & mask
	for t.slots[i].count > 0 && t.slots[i].value != value {
		i = (i + 1) & mask
	}
	return i
}

func (t *tally) resize(size int) {
	old := t.slots
	t.slots = make([]tallySlot, size)
	for _, s := range old {
		if s.count > 0 {
			t.slots[t.slot(s.value)] = s
		}
	}
}
