package window

// word stands for a short text of a small vocabulary (channels, merchant
// categories, kinds of instruments), so that entries hold no pointer. Zero is "".
type word uint16

// words is the vocabulary of one store. It is guarded by the store's lock.
type words struct {
	ids   map[string]word
	texts []string
}

// otherWord stands for every text beyond the first 65,534: somebody is making
// them up, and memory is worth more than telling them apart.
const otherWord = "(other)"

func newWords() words {
	return words{ids: map[string]word{"": 0}, texts: []string{""}}
}

func (w *words) text(id word) string { return w.texts[id] }

func (w *words) id(text string) word {
	if id, ok := w.ids[text]; ok {
		return id
	}
	if len(w.texts) >= 1<<16-1 {
		if text == otherWord {
			w.texts = append(w.texts, text)
			w.ids[text] = word(len(w.texts) - 1)
			return w.ids[text]
		}
		return w.id(otherWord)
	}
	text = string(append([]byte(nil), text...)) // it may point into a record
	w.texts = append(w.texts, text)
	w.ids[text] = word(len(w.texts) - 1)
	return w.ids[text]
}
