"""Clean sentences of customer service in many languages, written for these benchmarks.

In: nothing. Out: ``TEXTS``, language code to sentences, each of about 100 characters (fewer where
one character is a word). They serve as rows in another language, and as clean text that is easily
mistaken for damaged text.
"""

from typing import Final

TEXTS: Final[dict[str, tuple[str, ...]]] = {
    "de": (
        "Guten Tag, ich warte seit über zwei Wochen auf meine Bestellung und habe noch keine"
        " Rückmeldung erhalten.",
        "Könnten Sie bitte prüfen, ob die Überweisung für die größere Wohnung schon"
        " eingegangen ist?",
        "Die Lieferung enthält leider nicht die Größe, die ich ausgewählt hatte; ich möchte sie"
        " umtauschen.",
        "Öffnen Sie die Einstellungen, wählen Sie „Gerät zurücksetzen“ und bestätigen Sie mit Ihrem"
        " Passwort.",
        "Für die Rückerstattung benötigen wir die Rechnungsnummer und ein Foto des beschädigten"
        " Geräts.",
        "Mein Vertrag läuft im März aus, und ich würde ihn gern zu günstigeren Bedingungen"
        " verlängern.",
    ),
    "fr": (
        "Bonjour, je n’ai toujours pas reçu ma commande et le numéro de suivi ne donne aucun"
        " résultat depuis lundi.",
        "Pourriez-vous vérifier si le remboursement a été effectué sur la carte utilisée à"
        " l’époque de l’achat ?",
        "L’écran s’éteint dès que je connecte le câble ; j’ai déjà essayé de réinitialiser"
        " l’appareil deux fois.",
        "À quelle heure ouvre l’agence située près de la gare, et faut-il prendre rendez-vous à"
        " l’avance ?",
        "Nous sommes désolés pour ce désagrément et vous proposons un échange gratuit ou un avoir"
        " équivalent.",
        "Où puis-je trouver la facture détaillée du mois d’août ? Elle n’apparaît pas dans mon"
        " espace privé.",
    ),
    "es": (
        "Buenos días, todavía no he recibido el paquete y el número de seguimiento no muestra"
        " ningún movimiento.",
        "¿Podrían comprobar si la devolución ya se realizó en la tarjeta que usé para pagar el"
        " año pasado?",
        "La aplicación se cierra cuando añado una dirección nueva; ya intenté instalarla otra vez"
        " sin éxito.",
        "El técnico llegará mañana por la mañana entre las nueve y las once; debe haber alguien en"
        " casa.",
        "¿Cuánto cuesta ampliar la garantía un año más y qué daños cubre exactamente esa opción?",
        "Mi contraseña no funciona desde ayer y el código que me envían nunca llega a mi teléfono.",
    ),
    "it": (
        "Buongiorno, non ho ancora ricevuto il pacco e il corriere dice che l’indirizzo è"
        " incompleto, però è giusto.",
        "Potreste verificare perché il pagamento è stato addebitato due volte sulla mia carta di"
        " credito?",
        "La batteria si scarica già dopo tre ore, così vorrei sapere se la garanzia copre la"
        " sostituzione.",
        "Purtroppo l’appuntamento di venerdì è stato cancellato; possiamo spostarlo alla settimana"
        " prossima?",
        "Per modificare l’abbonamento basta aprire il profilo e scegliere la voce relativa alla"
        " fatturazione.",
        "Vorrei parlare con un operatore perché la risposta automatica non ha risolto il mio"
        " problema.",
    ),
    "pt": (
        "Bom dia, ainda não recebi a encomenda e a transportadora diz que não há ninguém em casa"
        " para a receber.",
        "Poderiam verificar se a devolução já foi processada? Não aparece nenhum valor na minha"
        " conta bancária.",
        "A aplicação deixou de funcionar após a última atualização e não consigo iniciar sessão no"
        " telemóvel.",
        "Gostaria de alterar a morada de entrega antes do envio, porque vou mudar de casa na"
        " próxima semana.",
        "As condições do contrato não estão claras e ninguém me explicou as comissões adicionais.",
        "Quanto tempo demora a substituição do cartão e posso continuar a usar o antigo até lá?",
    ),
    "nl": (
        "Goedemorgen, ik wacht al twee weken op mijn bestelling en heb nog steeds geen bericht van"
        " jullie gekregen.",
        "Kunt u nagaan of het bedrag al is teruggestort op de rekening waarmee ik vorige maand heb"
        " betaald?",
        "Het scherm blijft zwart wanneer ik het apparaat aanzet, ook nadat ik de stekker eruit heb"
        " gehaald.",
        "Ik zou graag mijn abonnement willen opzeggen, maar ik kan die mogelijkheid nergens op de"
        " website vinden.",
        "De monteur komt morgen tussen negen en elf uur langs; zorgt u dat er dan iemand thuis is?",
        "Waarom is de factuur van deze maand hoger dan anders, terwijl ik niets extra's heb"
        " besteld?",
    ),
    "pl": (
        "Dzień dobry, nadal nie otrzymałem przesyłki, a numer śledzenia nie pokazuje żadnych zmian"
        " od wtorku.",
        "Czy mogliby Państwo sprawdzić, dlaczego płatność została pobrana dwukrotnie z mojego"
        " konta?",
        "Urządzenie wyłącza się po kilku minutach, mimo że bateria jest w pełni naładowana i"
        " całkiem nowa.",
        "Proszę o zmianę adresu dostawy, ponieważ w przyszłym tygodniu przeprowadzam się do innego"
        " miasta.",
        "Ile kosztuje przedłużenie gwarancji o kolejny rok i jakie usterki ona właściwie obejmuje?",
        "Nie mogę się zalogować, chociaż hasło jest poprawne, a kod nie przychodzi na mój telefon.",
    ),
    "cs": (
        "Dobrý den, stále jsem neobdržel svou objednávku a sledovací číslo už týden neukazuje"
        " žádnou změnu.",
        "Mohli byste prosím ověřit, proč mi byla platba z účtu stržena dvakrát během jednoho dne?",
        "Přístroj se po několika minutách vypíná, přestože je baterie plně nabitá a úplně nová.",
        "Rád bych změnil adresu doručení, protože se příští týden stěhuji do jiného města.",
        "Kolik stojí prodloužení záruky o další rok a na jaké závady se vlastně vztahuje?",
        "Nemohu se přihlásit, i když je heslo správné, a kód mi na telefon vůbec nepřichází.",
    ),
    "sv": (
        "Hej, jag har väntat på min beställning i över två veckor och har fortfarande inte fått"
        " något besked.",
        "Kan ni kontrollera om återbetalningen redan är gjord till kortet som jag använde när jag"
        " köpte varan?",
        "Skärmen förblir svart när jag sätter på enheten, även efter att jag har dragit ur"
        " sladden.",
        "Jag skulle vilja ändra leveransadressen eftersom jag flyttar till en annan stad nästa"
        " vecka.",
        "Varför är fakturan högre än vanligt den här månaden trots att jag inte har beställt något"
        " extra?",
        "Teknikern kommer i morgon mellan nio och elva, se till att någon är hemma då.",
    ),
    "tr": (
        "Merhaba, siparişimi iki haftadır bekliyorum ve kargo takip numarası hâlâ hiçbir değişiklik"
        " göstermiyor.",
        "Ödemenin kartımdan neden iki kez çekildiğini kontrol edip bana bilgi verebilir misiniz"
        " lütfen?",
        "Cihaz tam şarjlı olmasına rağmen birkaç dakika sonra kendiliğinden kapanıyor, ne"
        " yapmalıyım?",
        "Gelecek hafta başka bir şehre taşınacağım için teslimat adresini değiştirmek istiyorum.",
        "Garantiyi bir yıl daha uzatmanın ücreti ne kadar ve hangi arızaları kapsıyor acaba?",
        "Şifrem doğru olduğu hâlde giriş yapamıyorum ve doğrulama kodu telefonuma gelmiyor.",
    ),
    "vi": (
        "Xin chào, tôi đã chờ đơn hàng hơn hai tuần rồi mà vẫn chưa nhận được thông báo nào từ"
        " cửa hàng.",
        "Anh chị có thể kiểm tra giúp tôi vì sao thẻ của tôi bị trừ tiền hai lần trong cùng một"
        " ngày không?",
        "Thiết bị tự tắt sau vài phút mặc dù pin đã được sạc đầy và vẫn còn rất mới, tôi phải"
        " làm gì?",
        "Tôi muốn đổi địa chỉ giao hàng vì tuần sau tôi sẽ chuyển nhà sang một thành phố khác.",
        "Gia hạn bảo hành thêm một năm giá bao nhiêu và gồm những hư hỏng nào vậy ạ?",
        "Tôi không đăng nhập được dù mật khẩu đúng, và mã xác nhận không gửi về"
        " điện thoại của tôi.",
    ),
    "ru": (
        "Здравствуйте, я жду свой заказ уже две недели, а номер отслеживания до сих пор ничего не"
        " показывает.",
        "Не могли бы вы проверить, почему деньги списались с моей карты дважды за один и тот же"
        " день?",
        "Устройство выключается через несколько минут, хотя батарея полностью заряжена и совсем"
        " новая.",
        "Я хотел бы изменить адрес доставки, потому что на следующей неделе переезжаю в другой"
        " город.",
        "Сколько стоит продление гарантии ещё на один год и какие поломки она на самом деле"
        " покрывает?",
        "Я не могу войти в личный кабинет, хотя пароль верный, а код на телефон так и не приходит.",
    ),
    "ar": (
        "مرحبا، أنتظر طلبي منذ أكثر من أسبوعين ولم أتلق أي رد حتى الآن، ورقم التتبع لا يظهر شيئا.",
        "هل يمكنكم التحقق من سبب خصم المبلغ من بطاقتي مرتين في اليوم نفسه وإعادة المبلغ الزائد؟",
        "أرغب في تغيير عنوان التسليم لأنني سأنتقل إلى مدينة أخرى في الأسبوع القادم إن شاء الله.",
    ),
    "he": (
        "שלום, אני מחכה להזמנה שלי כבר יותר משבועיים ועדיין לא קיבלתי שום עדכון מחברת המשלוחים.",
        "האם תוכלו לבדוק מדוע הכרטיס שלי חויב פעמיים באותו היום ולהחזיר לי את הסכום העודף?",
        "אני רוצה לשנות את כתובת המשלוח כי בשבוע הבא אני עובר דירה לעיר אחרת בצפון הארץ.",
    ),
    "fa": (
        "سلام، بیش از دو هفته است که منتظر سفارشم هستم و هنوز هیچ پاسخی دریافت نکرده\u200cام.",
        "لطفاً بررسی کنید چرا مبلغ دو بار از کارت من کم شده است و چه زمانی برگردانده می\u200cشود؟",
        "می\u200cخواهم نشانی تحویل را عوض کنم چون هفته\u200cی آینده به شهر دیگری می\u200cروم.",
    ),
    "hi": (
        "नमस्ते, मैं दो सप्ताह से अपने ऑर्डर की प्रतीक्षा कर रहा हूँ और अब तक कोई जवाब नहीं मिला है।",
        "कृपया जाँच करें कि मेरे कार्ड से एक ही दिन में दो बार पैसे क्यों काटे गए और वे कब लौटाए जाएँगे?",
        "मैं अगले सप्ताह दूसरे शहर में जा रहा हूँ, इसलिए डिलीवरी का पता बदलना चाहता हूँ।",
    ),
    "th": (
        "สวัสดีครับ ผมรอสินค้ามาเกินสองสัปดาห์แล้ว แต่ยังไม่ได้รับการติดต่อกลับจากทางร้านเลย",
        "ช่วยตรวจสอบให้หน่อยได้ไหมว่าทำไมบัตรของฉันถูกหักเงินสองครั้งในวันเดียวกัน",
        "ผมอยากเปลี่ยน\u200bที่อยู่จัดส่ง\u200bเพราะสัปดาห์หน้าจะย้ายไปอยู่จังหวัดอื่น",
    ),
    "zh": (
        "您好，我的订单已经等了两个多星期，物流信息一直没有更新，请帮我查一下包裹现在在哪里，什么时候能够送到。",
        "请问为什么我的银行卡在同一天被扣了两次款？能不能帮我核实一下，并把多收的金额尽快退还给我？",
        "我下个星期要搬到另一个城市，所以想修改收货地址，请告诉我应该怎么操作，需不需要另外付费。",
    ),
    "ja": (
        "お世話になっております。注文してから二週間以上経ちますが、まだ商品が届いておりません。配送状況を確認していただけますか。",
        "同じ日に二回カードから引き落としがありました。原因を調べて、余分な金額を返金していただきたいです。",
        "来週引っ越すことになりましたので、お届け先の住所を変更したいのですが、どうすればよろしいでしょうか。",
    ),
    "ko": (
        "안녕하세요, 주문한 지 두 주가 넘었는데 아직 상품을 받지 못했습니다."
        " 배송이 어디까지 진행되었는지 확인해 주세요.",
        "같은 날에 카드에서 두 번 결제가 되었습니다."
        " 원인을 확인하시고 초과된 금액을 환불해 주시면 감사하겠습니다.",
        "다음 주에 다른 도시로 이사를 가게 되어 배송 주소를 바꾸고 싶은데"
        " 어떻게 하면 되는지 알려 주세요.",
    ),
}
LATIN: Final = ("de", "fr", "es", "it", "pt", "nl", "pl", "cs", "sv", "tr", "vi")
"""Those written in Latin letters with accents."""
