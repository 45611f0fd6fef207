package rules

// What payers are told where the ruleset does not say it in its own words. The
// codes are those that the gate itself gives; the texts promise nothing that a
// payment service may not keep.

// The payer codes that the gate gives by itself.
const (
	PayerInvalidRequest = "INVALID_REQUEST"   // the payment could not be read
	PayerNotNow         = "NOT_NOW"           // no verdict in time
	PayerConfirm        = "CONFIRM_IT_IS_YOU" // held for another proof by the payer
	PayerUnderReview    = "UNDER_REVIEW"      // held for a person
	PayerReleased       = "RELEASED"          // held before, and goes on
	PayerDeclined       = "DECLINED"          // blocked, and nothing else is said
	PayerHoldExpired    = "HOLD_EXPIRED"      // held, and nobody cleared it in time
	PayerDuplicate      = "DUPLICATE"         // it was paid before
	PayerTryAnotherWay  = "TRY_ANOTHER_WAY"   // the instrument is the trouble
	PayerFailed         = "PAYMENT_FAILED"    // approved, and failed technically
	PayerDeclinedByBank = "DECLINED_BY_BANK"  // approved, and the bank said no
	PayerCancelled      = "PAYMENT_CANCELLED" // approved, and taken back
	PayerRefunded       = "REFUNDED"          // money comes back
)

// defaultPayerTexts returns the built-in texts, by code.
func defaultPayerTexts() map[string][]PayerText {
	return map[string][]PayerText{
		PayerInvalidRequest: {
			{"en", "This payment could not be processed.", "Please start it again in the app or at the shop."},
			{"zh-CN", "这笔付款无法处理。", "请在应用或商家处重新发起付款。"}},
		PayerNotNow: {
			{"en", "This payment could not be completed right now.", "Please look at its state before you pay again."},
			{"zh-CN", "这笔付款暂时无法完成。", "再次付款前,请先查看这笔付款的状态。"}},
		PayerConfirm: {
			{"en", "Please confirm that it is you who is paying.", "Open your app and confirm the payment. If it is not yours, decline it and contact us."},
			{"zh-CN", "请确认本次付款由您本人操作。", "请打开应用确认付款;如非本人操作,请拒绝并联系客服。"}},
		PayerUnderReview: {
			{"en", "We are checking this payment.", "There is nothing to do for you. Please do not pay again; we will let you know."},
			{"zh-CN", "我们正在核实这笔付款。", "您无需任何操作,请勿重复付款,结果会尽快通知您。"}},
		PayerReleased: {
			{"en", "Your payment was checked and goes on.", ""},
			{"zh-CN", "您的付款已通过核实,正在继续处理。", ""}},
		PayerDeclined: {
			{"en", "This payment was declined.", "Please pay in another way, or contact us if you need help."},
			{"zh-CN", "这笔付款未获通过。", "请更换支付方式;如需帮助,请联系客服。"}},
		PayerHoldExpired: {
			{"en", "This payment was not confirmed in time and was declined.", "If you still want to pay, please start it again."},
			{"zh-CN", "这笔付款未在规定时间内确认,已被取消。", "如仍需付款,请重新发起。"}},
		PayerDuplicate: {
			{"en", "It looks as if you had made this payment before.", "Please look at your earlier payments. If you mean to pay again, contact us."},
			{"zh-CN", "这笔付款似乎与之前的一笔重复。", "请查看您之前的付款记录;如确需再次付款,请联系客服。"}},
		PayerTryAnotherWay: {
			{"en", "This way to pay cannot be used right now.", "Please try another way to pay."},
			{"zh-CN", "当前支付方式暂时无法使用。", "请更换其他支付方式。"}},
		PayerFailed: {
			{"en", "Your payment failed for a technical reason.", "Please try again. If money was taken, it comes back by itself."},
			{"zh-CN", "由于技术原因,您的付款未成功。", "请稍后重试;如已扣款,款项将自动退回。"}},
		PayerDeclinedByBank: {
			{"en", "Your bank did not accept this payment.", "Please pay in another way, or ask your bank."},
			{"zh-CN", "您的银行未通过这笔付款。", "请更换支付方式,或咨询您的银行。"}},
		PayerCancelled: {
			{"en", "Your payment was cancelled.", "If you did not do this, please ask the shop or contact us."},
			{"zh-CN", "您的付款已取消。", "如非本人操作,请咨询商家或联系客服。"}},
		PayerRefunded: {
			{"en", "Your payment is being refunded.", "The money comes back to where you paid from."},
			{"zh-CN", "您的付款正在退款。", "款项将原路退回。"}},
	}
}
