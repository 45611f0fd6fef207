package load

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"

	"github.com/sluice-risk/sluice/pipeline/payment"
)

// AnswerBy sets when a payment is to be answered; 0: as soon after its event time
// as the policy says.
func AnswerBy(record []byte, by payment.Time) []byte {
	const field = `"decide_by":"`
	if from := bytes.Index(record, []byte(field)); from >= 0 {
		to := from + len(field) + bytes.IndexByte(record[from+len(field):], '"') + 1
		record = append(append([]byte{}, record[:from]...), bytes.TrimPrefix(record[to:], []byte(","))...)
	}
	if by == 0 {
		return record
	}
	return append(fmt.Appendf(nil, `{"decide_by":%q,`, by), record[1:]...)
}

// Spoil makes a record that must be refused; half of them can be answered.
func Spoil(rng *rand.Rand, record []byte) []byte {
	switch rng.IntN(6) {
	case 0:
		return []byte{}
	case 1:
		return record[:len(record)/2]
	case 2:
		return append([]byte("\xff\xfe"), record...)
	case 3:
		return bytes.Replace(record, []byte(`"currency":"`), []byte(`"currency":"QQQ`), 1)
	case 4:
		return bytes.Replace(record, []byte(`"value":`), []byte(`"value":-`), 1)
	default:
		return bytes.Replace(record, []byte(`"type":"`), []byte(`"type":"odd_`), 1)
	}
}

// Contradict makes a record with the same id and another amount.
func Contradict(record []byte) []byte {
	const field = `"value":`
	from := bytes.Index(record, []byte(field)) + len(field)
	to := from + bytes.IndexAny(record[from:], ",}")
	amount, err := strconv.ParseInt(string(record[from:to]), 10, 64)
	if err != nil {
		panic(fmt.Sprintf("no amount in a record of the generator: %s", record)) // it always has one
	}
	return append(strconv.AppendInt(append([]byte{}, record[:from]...), amount+1, 10), record[to:]...)
}

// Home is the partition of a key.
func Home(key string, partitions int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key))
	return int(h.Sum32() % uint32(partitions))
}
