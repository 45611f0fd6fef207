package window

// adopt gives outcomes that wait to transactions that are there. What waited for a
// transaction is written right behind it, in one write; a machine's crash may have
// cut between the two. The transaction then comes again as one that is known, and
// nobody would look for what waits.
func (s *Embedded) adopt() error {
	var adopted []counting
	for h, list := range s.parked {
		tx, logged := s.findTx(h)
		if !logged {
			continue
		}
		for i := range list {
			r := list[i].outcome
			r.txTime = s.journal.at(tx).time()
			_, n := s.journal.putOutcome(&r, tx)
			adopted = append(adopted, counting{r.identity, n, tx})
		}
	}
	if len(adopted) == 0 {
		return nil
	}
	if err := s.journal.flush(); err != nil {
		return err
	}
	for _, c := range adopted {
		s.index.tail.add(identityKey(c.identity), c.number)
		e := s.journal.at(c.number)
		s.tell(e, c.number, s.journal.at(c.tx), func(k indexedKind) bool { return k.outcomes })
		s.parked.remove(e.tx(), c.identity)
	}
	return nil
}
