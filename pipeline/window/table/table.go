// Package table holds a hash table for millions of entries on a hot path. It has
// no pointers inside where keys and values have none, so that the garbage
// collector need not look at it; it grows by one shard at a time, so that nobody
// waits until everything has moved; and one can look ahead: see Peek.
//
// Each key comes with its home, 64 bits that are spread well, such as a keyed
// hash or the key itself where it is one. The zero key stands for a free place
// and cannot be kept. Collisions go to the next place (linear probing).
package table

// Table finds values by keys. The zero Table is empty.
type Table[K comparable, V any] struct {
	shards [shards]shard[K, V]
	used   int
}

const (
	shardBits = 8
	shards    = 1 << shardBits
)

type shard[K comparable, V any] struct {
	slots []slot[K, V] // a power of two of them, or none
	used  int
}

type slot[K comparable, V any] struct {
	home  uint64
	key   K
	value V
}

func (t *Table[K, V]) shard(home uint64) *shard[K, V] { return &t.shards[home>>(64-shardBits)] }

// Len is the number of keys.
func (t *Table[K, V]) Len() int { return t.used }

// Find returns the value of a key, nil where it is not there. It may be read and
// changed until the next Add or Delete.
func (t *Table[K, V]) Find(home uint64, key K) *V {
	s := t.shard(home)
	if s.used == 0 {
		return nil
	}
	var free K
	if at := s.place(home, key); s.slots[at].key != free {
		return &s.slots[at].value
	}
	return nil
}

// Add returns the value of a key as Find does, a zero one where the key is new.
func (t *Table[K, V]) Add(home uint64, key K) (v *V, added bool) {
	s := t.shard(home)
	if 4*s.used >= 3*len(s.slots) {
		s.grow()
	}
	at := s.place(home, key)
	if s.slots[at].key == key {
		return &s.slots[at].value, false
	}
	s.slots[at] = slot[K, V]{home: home, key: key}
	s.used++
	t.used++
	return &s.slots[at].value, true
}

// Delete forgets a key.
func (t *Table[K, V]) Delete(home uint64, key K) {
	s := t.shard(home)
	if t.Find(home, key) == nil {
		return
	}
	s.used--
	t.used--
	var free K
	mask := uint64(len(s.slots) - 1)
	i := s.place(home, key)
	for j := (i + 1) & mask; s.slots[j].key != free; j = (j + 1) & mask {
		// The key at j may move to the hole at i if its home is not between them.
		if h := s.slots[j].home & mask; (j-h)&mask >= (j-i)&mask {
			s.slots[i], i = s.slots[j], j
		}
	}
	s.slots[i] = slot[K, V]{}
}

// Each calls visit for every key, in no order.
func (t *Table[K, V]) Each(visit func(key K, v *V)) {
	var free K
	for i := range t.shards {
		slots := t.shards[i].slots
		for at := range slots {
			if slots[at].key != free {
				visit(slots[at].key, &slots[at].value)
			}
		}
	}
}

// Peek returns the place where Find begins to look, whosever it is. Reading from
// the places of many keys before they are looked up lets the processor fetch
// them from memory side by side, and not one after the other.
func (t *Table[K, V]) Peek(home uint64) *V {
	s := t.shard(home)
	if len(s.slots) == 0 {
		return nil
	}
	return &s.slots[home&uint64(len(s.slots)-1)].value
}

// place is where a key stands, or the free place where it belongs.
func (s *shard[K, V]) place(home uint64, key K) uint64 {
	var free K
	mask := uint64(len(s.slots) - 1)
	i := home & mask
	for s.slots[i].key != key && s.slots[i].key != free {
		i = (i + 1) & mask
	}
	return i
}

func (s *shard[K, V]) grow() {
	var free K
	old := s.slots
	s.slots = make([]slot[K, V], max(8, 2*len(old)))
	for i := range old {
		if old[i].key != free {
			s.slots[s.place(old[i].home, old[i].key)] = old[i]
		}
	}
}
