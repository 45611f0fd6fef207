package pipeline

import (
	"hash/maphash"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
)

// languages remembers in which locale payers sent their last payment: a later
// revision and an outcome do not say it. One slot serves all payers that share
// it, the last one wins; who is not found is told in the default language. So
// it takes no more memory for more payers, and no lock for a payment.
type languages struct {
	seed    maphash.Seed
	slots   []atomic.Uint64 // the hash of a payer, its lowest byte replaced by the number of a locale
	locales atomic.Pointer[localeNumbers]
	growing sync.Mutex // held to replace locales
}

// localeNumbers are the locales that were seen, from number 1 on.
type localeNumbers struct {
	number map[string]uint64
	names  []string
}

const (
	languageSlots = 1 << 18 // 2 MB
	maxLocales    = 255     // callers send what they like
)

func (l *languages) init() {
	l.seed, l.slots = maphash.MakeSeed(), make([]atomic.Uint64, languageSlots)
	l.locales.Store(&localeNumbers{number: map[string]uint64{}, names: []string{""}})
}

// slot is where a payer's locale is kept, and the payer's hash without its lowest byte.
func (l *languages) slot(payer string) (*atomic.Uint64, uint64) {
	h := maphash.String(l.seed, payer)
	return &l.slots[h>>8%languageSlots], h &^ 0xff
}

// note remembers the locale of a payer; "" says nothing.
func (l *languages) note(payer, locale string) {
	if locale == "" {
		return
	}
	number, known := l.locales.Load().number[locale]
	if !known {
		number = l.add(locale)
	}
	if slot, hash := l.slot(payer); slot.Load() != hash|number {
		slot.Store(hash | number)
	}
}

// add gives a locale a number, 0 where there are too many.
func (l *languages) add(locale string) uint64 {
	l.growing.Lock()
	defer l.growing.Unlock()
	before := l.locales.Load()
	if number, known := before.number[locale]; known || len(before.names) > maxLocales {
		return number
	}
	locale = strings.Clone(locale)
	after := &localeNumbers{maps.Clone(before.number), append(before.names[:len(before.names):len(before.names)], locale)}
	number := uint64(len(before.names))
	after.number[locale] = number
	l.locales.Store(after)
	return number
}

// of is the locale of a payer, "" when it is not known.
func (l *languages) of(payer string) string {
	slot, hash := l.slot(payer)
	if v := slot.Load(); v&^0xff == hash {
		return l.locales.Load().names[v&0xff]
	}
	return ""
}
