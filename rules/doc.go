// Package rules loads what analysts write and decides transactions by it.
//
// A ruleset is a folder: features/*.yaml, rules/*.yaml, lists/*.yaml, data/*.csv, policy.yaml,
// rates.yaml and notices.yaml (what payers are told, see noticefile.go), loaded
// together and named by one hash. Load reports every mistake at its file, line and
// column, with the line and what to write instead; what loads has no mistake that
// can be seen without a transaction. An Evaluator decides: the lists that block,
// the rules that apply to the transaction's type and channel, then points, then
// the policy. Overrides are what people change at run time, without a new ruleset.
//
// # The language of conditions
//
// A condition (`when` of a rule, `where` of a feature, the inside of share(...))
// is an expression of expr-lang, of which there is here:
//
//	names        type, amount, payer.country, card.attempts_10m, attributes.basket_size
//	texts        "CN" 'CN'            numbers  5 0.25 1_000     truths  true false
//	money        CNY(10) USD(1.50)    at the rate in force when the ruleset is loaded
//	logic        and or not  (&& || !)
//	comparison   == != < <= > >=      also 1 < x < 5
//	membership   channel in ["qr", "web"]    hour in 0..5    "otp" in auth.methods    not in
//	texts        contains  startsWith  endsWith  matches "^re"    (the pattern is RE2)
//	arithmetic   + - * / %            / gives a fraction, % is of whole numbers
//	functions    has(x)  len(text)  abs(x)  min(a, b, …)  max(a, b, …)  reach(feature)
//	             ratio(a, b)  z_score(x, mean, stddev)  km_between(lat1, lon1, lat2, lon2)
//	local time   time_between("22:00", "06:00")  hour("Europe/Berlin")  weekday("Europe/Berlin")
//	lists        in_list(payer, "vip")     country_of(ip)  country_of(bin)
//	choice       condition ? a : b    x ?? default
//
// not binds closer than a comparison: write not (a == b), or a != b. Beside ??
// another operator needs parentheses: (x ?? 0) > 5.
//
// # Names in rules
//
// The fields of the transaction by their paths: type, channel, currency,
// order_id, locale, original_transaction_id; account_id, country, email and
// phone of payer; account_id, merchant_id, mcc and country of payee; kind,
// token, bin and bank of instrument; id and country of terminal; id, ip,
// country, lat and lon of device; auth.methods; attributes.NAME. Of its time:
// hour (0 to 23) and weekday (1, Monday, to 7), in the policy's time zone; see also
// Local time. Of its
// amount: amount, in the base currency, and amount_original, as sent. And every
// feature: entity, point, name, underscore, window. An entity is a payer, payee,
// instrument, card (an instrument of that kind), device, ip, terminal, email,
// phone, bin, order, bank or charge (see Duplicate payments), or two of these,
// charges excepted, joined by an underscore.
//
// A type, a country, a currency or a verdict (of an event) that there is not, such
// as the country "UK", is a mistake: the comparison could never hold.
//
// In where and share, names are facts about one event of the window, as
// window.Fields documents them: status, amount, type, channel, fraud, …
//
// # Local time
//
// time_between("22:00", "06:00") is true from the first time of day until before
// the second, over midnight where the first is the later one, on the clock of the
// policy's time zone. A third value names another zone, and so do hour and weekday
// with parentheses. All go by the event time, as the clocks on the wall do when
// they are changed: an hour that comes twice counts twice. None stands in where
// and share.
//
//	time_between("22:00", "06:00")                       at night where the policy is
//	time_between("22:00", "06:00", "Europe/Berlin")      at night in Berlin
//	weekday("Asia/Tokyo") in 6..7 and hour("Asia/Tokyo") < 6
//
// # How unusual a number is
//
// ratio(a, b) is a / b as a plain number, of two amounts of money or of two
// numbers, and absent where b is 0:
//
//	ratio(card.declined_1h, card.attempts_1h) > 0.5
//
// z_score(x, mean, stddev) is (x - mean) / stddev, how many standard deviations x
// lies above the mean: against the history of the payer himself, with mean and
// standard deviation as features. It is absent where stddev is 0 or absent, since
// where all payments were alike nothing says how unusual another is. A window
// holds the payment itself, and among n values none can be further off than the
// square root of n - 1; a delay leaves it out:
//
//	features:
//	  - {entity: payer, name: mean, windows: [30d], delay: 1s, value: avg}
//	  - {entity: payer, name: spread, windows: [30d], delay: 1s, value: stddev}
//
//	z_score(amount, payer.mean_30d, payer.spread_30d) > 4 and reach(payer.mean_30d) >= 20 * 86400
//
// km_between(lat1, lon1, lat2, lon2) is the way between two places in km, latitudes
// before longitudes, in degrees: the great circle by the haversine formula (R. W.
// Sinnott, Virtues of the Haversine, Sky and Telescope 68, 1984), on a sphere of
// radius 6371 km, which is up to 0.6 % off on the earth. It is absent for a device
// without a place. How fast an entity moved since its last place is a feature,
// speed_kmh.
//
//	km_between(device.lat, device.lon, 31.23, 121.47) > 100
//
// # Money
//
// Money is compared with money: amount > 10 is a mistake, amount > CNY(10) is
// meant. Money times or divided by a number is money, money divided by money is
// a number, and money plus or minus money is money. Sums, minima and maxima are
// exact; means, and whatever is multiplied by a fraction, are fractions of the
// smallest unit. amount_original is compared with an amount in one currency,
// and is unknown for a transaction in another.
//
// # Lists
//
// A file of lists/ is one list: its name (list), its type, what a hit does
// (effect: none or block), and entries, each a value, and if wanted until when it
// counts, why it is there and by whom. in_list(field, "name") asks a list about
// the field of its type, which has a short name where there is one: payer, payee,
// card, device, ip, mcc, phone, email, bin; one of the countries; any text for
// type string. It is unknown where the field is absent. E-mail is compared
// without regard to capitals, phone numbers without spaces, points, dashes and
// parentheses; an ip is an address or a network.
//
// effect: block blocks by itself whatever has one of its values: before all
// rules, with source list, reason LIST_ and its name, and its payer_code
// (TRY_ANOTHER_WAY). Of a list of countries, all four countries of a transaction
// are looked at. Nothing lifts it.
//
// An exempt, in a file of rules, switches off the rules that it names by id or
// tag (from) for the payments of its condition (when). It lifts no list.
//
// An entry and an exempt count while the payment's event time is before until. A
// day means its end, in the policy's time zone, UTC without one.
//
// # Countries of addresses and cards
//
// The files data/*.csv tell the country of addresses and of card BINs, one prefix
// a line: an address, a network, or the first digits of a card. They are part of
// the ruleset and of its hash:
//
//	prefix,country
//	203.0.113.0/24,JP
//	203.0.113.128/25,CN
//	622202,CN
//
// country_of(ip) and country_of(bin) are the country of the longest prefix, and
// absent where none fits:
//
//	country_of(ip) != payer.country
//
// # How far back a feature sees
//
// A new feature is exact from the first payment on, as far back as the logs of
// its entities reach, and that may be less than its window: on a store that is a
// week old, the sum of thirty days is the sum of one week. reach(feature) is how
// many seconds the feature really sees back for this payment: the length of its
// window (of a calendar window, the time since its local midnight), or less, as
// long as the logs reach less far. Where the window ends before the payment
// (delay), it is counted from that end. A rule that compares with what was usual
// waits until there is something usual:
//
//	reach(payer.amount_30d) >= 20 * 86400 and amount > 5 * payer.amount_30d
//
// It is absent where the feature's entity is not named, or the payment is late.
//
// # Reasons
//
// A rule's reason is the code that decisions, statistics and payment services know
// it by; without one it is made of the id, in capitals. Where others must know every
// code before it is used, the policy closes their set: then a code that is not in it
// is a mistake, and one that no rule gives is worth a remark.
//
//	reasons: [CARD_TESTING, MULE_ACCOUNT]        in policy.yaml: by default any
//
// # Duplicate payments
//
// A charge is what would be paid twice: the type, payer, payee, amount and currency
// of a transaction together. A payment whose charge was made before, and is approved
// or pending, is a duplicate if both name the same order, whenever that was; or if
// one of them names none, and their event times are at most `within` apart:
//
//	duplicates: {within: 60s, verdict: hold}     in policy.yaml: these are the defaults
//
// The verdict is hold or block, or approve to look for none; payer_message may
// replace what the payer reads. Its source is duplicate unless a rule is stricter,
// and the reason DUPLICATE_PAYMENT names the first such payment. What was blocked,
// has failed, or was declined, cancelled or refunded by then may be paid again.
// Refunds, and payments that name no payee, are no charges. A payment too late for
// windows is not looked at. Of more than 1,024 payments of one charge the latest
// are looked at.
//
// What nearly repeats is for rules. charge is an entity that features can count; an
// order at a payee tells of other payers and amounts; and the last amount tells of
// one that differs little:
//
//	features:
//	  - {entity: charge, name: payments, windows: [1d], value: count}
//	  - {entity: payee_order, name: payers, windows: [1d], value: distinct(payer)}
//	  - {entity: payer_payee, name: paid, windows: [10m], value: last(amount)}
//	rules:
//	  - {id: often, description: Paid often, owner: me, verdict: hold,
//	     when: 'charge.payments_1d >= 4'}
//	  - {id: two-payers, description: Two pay one order, owner: me, verdict: hold,
//	     when: 'payee_order.payers_1d >= 2'}
//	  - {id: nearly, description: Nearly the same again, owner: me, verdict: hold,
//	     when: 'abs(amount - payer_payee.paid_10m) <= 0.01 * amount'}
//
// # Unknown
//
// What a transaction does not say, and what a window cannot know, is absent. As
// in SQL, a comparison with an absent value is unknown, != included, and so is
// not unknown; unknown and false is false; unknown or true is true; arithmetic
// with something absent, and division by zero, is absent. A rule that comes out
// unknown does not fire, and the decision lists it. x ?? default and has(x) say
// what absence means:
//
//	device.country != payer.country                      not for payments without a device
//	(device.country ?? "none") != payer.country          for these too
//	not has(device.id) and amount > CNY(500)
//
// An empty list of methods is absent too. last(...) of an identifier, such as the
// payer's last device, is kept as a hash: it is compared by == or != with the
// transaction's own identifier of that kind, and never shown.
//
// A sum of whole numbers that does not fit 64 bits fails the rule, which then
// takes no part; the decision lists it and is marked degraded.
package rules
