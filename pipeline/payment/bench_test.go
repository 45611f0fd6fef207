package payment

import "testing"

// exampleTransaction is the example of the contract.
const exampleTransaction = `{"v":1,"transaction_id":"42000012342026112300001","type":"payment","channel":"qr",
 "event_time":"2026-11-23T08:15:30.123+08:00","decide_by":"2026-11-23T08:15:30.423+08:00",
 "amount":{"value":12850,"currency":"CNY"},"order_id":"A-77120",
 "payer":{"account_id":"u-1001","country":"CN","email":"…","phone":"…"},
 "payee":{"account_id":"m-88","merchant_id":"m-88","mcc":"5812","country":"CN"},
 "instrument":{"kind":"card","token":"c-7f","bin":"622202","bank":"icbc"},
 "terminal":{"id":"t-9","country":"CN"},
 "device":{"id":"d-31","ip":"203.0.113.7","country":"CN","lat":31.2,"lon":121.5},
 "auth":{"methods":["password","fingerprint"]},"accepts":["hold","step_up"],
 "original_transaction_id":null,"locale":"zh-CN","attributes":{"basket_size":"3"}}`

var exampleRecord = []byte(exampleTransaction)

func BenchmarkDecodeTransaction(b *testing.B) {
	d := Decoder{Limits: DefaultLimits()}
	at, _ := ParseTime("2026-11-23T00:15:31Z")
	var t Transaction
	b.SetBytes(int64(len(exampleRecord)))
	b.ReportAllocs()
	for b.Loop() {
		if r := d.Transaction(exampleRecord, at, &t); r != nil {
			b.Fatal(r)
		}
	}
}

func BenchmarkAppendTransaction(b *testing.B) {
	d := Decoder{Limits: DefaultLimits()}
	at, _ := ParseTime("2026-11-23T00:15:31Z")
	var t Transaction
	if r := d.Transaction(exampleRecord, at, &t); r != nil {
		b.Fatal(r)
	}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		out = t.Append(out[:0])
	}
	b.SetBytes(int64(len(out)))
}
