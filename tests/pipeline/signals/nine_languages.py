"""A short text in nine languages, of at least fifty words each: how a river town lives with its market."""

TEXTS = {
    "de": (
        "Die kleine Stadt liegt an einem breiten Fluss, und jeden Samstag kommen die Bauern mit ihren Wagen auf den "
        "Markt. Sie verkaufen Brot, Käse und Äpfel, die sie im Herbst von den alten Bäumen gepflückt haben. Wer früh "
        "aufsteht, findet noch frischen Fisch und kann mit dem Fischer über das Wetter sprechen. Am Nachmittag werden "
        "die Stände abgebaut, und für ein paar Stunden gehört der Platz den Kindern, die dort mit ihren Rädern fahren. "
        "Im Winter ist es stiller als sonst, denn viele Wege sind dann von Schnee bedeckt.\n"
    ),
    "fr": (
        "La petite ville se trouve au bord d'un large fleuve, et chaque samedi les paysans viennent au marché avec "
        "leurs voitures. Ils vendent du pain, du fromage et des pommes qu'ils ont cueillies en automne dans les vieux "
        "vergers. Celui qui se lève tôt trouve encore du poisson frais et peut parler du temps avec le pêcheur. "
        "L'après-midi on démonte les étals, et pendant quelques heures la place est aux enfants, qui y font du vélo. "
        "En hiver il y a moins de bruit, parce que la neige couvre une grande partie des chemins.\n"
    ),
    "es": (
        "La pequeña ciudad está a la orilla de un río ancho, y cada sábado los campesinos llegan al mercado con sus "
        "carros. Venden pan, queso y manzanas que en otoño recogieron de los viejos árboles. Quien se levanta temprano "
        "encuentra todavía pescado fresco y puede hablar del tiempo con el pescador. Por la tarde se recogen los "
        "puestos, y durante unas horas la plaza es de los niños, que pasean por ella con una bicicleta. En invierno "
        "hay menos ruido, porque la nieve cubre las calles y casi nadie sale de su casa.\n"
    ),
    "ru": (
        "Маленький город стоит на берегу широкой реки, и каждую субботу крестьяне приезжают на рынок со своими "
        "телегами. Они продают хлеб, сыр и яблоки, которые осенью собрали со старых деревьев. Тот, кто встаёт рано, "
        "найдёт ещё свежую рыбу и сможет поговорить с рыбаком о погоде. После обеда прилавки убирают, и на несколько "
        "часов площадь принадлежит детям, которые катаются там на велосипедах. Зимой в городе тише, чем летом, потому "
        "что дороги покрыты снегом и почти никто не выходит из дома без дела.\n"
    ),
    "zh": (
        "这座小城在一条宽阔的河边，每到星期六，农民就赶着车来到市场。他们卖面包、奶酪和苹果，这些苹果是秋天从老树上摘下来的。"
        "早起的人还能买到新鲜的鱼，也可以和渔夫谈谈天气。下午摊位都收起来了，广场在几个小时里属于孩子们，他们在那里骑自行车。"
        "冬天比平时安静，因为很多路被雪盖住了，人们也不大出门。到了春天，河上的冰化了，船又可以开到对岸去，城里也热闹起来。\n"
    ),
    "ja": (
        "その小さな町は広い川のほとりにあり、土曜日になると農家の人たちが車で市場にやって来る。彼らはパンやチーズ、"
        "そして秋に古い木から摘んだりんごを売っている。早く起きた人は新しい魚を買うことができ、漁師と天気の話をする。"
        "午後になると店は片付けられ、広場は数時間のあいだ子どもたちのものになり、みんなで自転車に乗って遊ぶ。"
        "冬は雪で道が覆われるので、町はいつもより静かになる。春が来ると川の氷がとけて、船はまた向こう岸まで行けるようになった。\n"
    ),
    "ar": (
        "تقع المدينة الصغيرة على ضفة نهر واسع، وفي كل يوم سبت يأتي الفلاحون إلى السوق مع عرباتهم. يبيعون الخبز والجبن "
        "والتفاح الذي قطفوه في الخريف من الأشجار القديمة. ومن يستيقظ مبكرا يجد السمك الطازج ويستطيع أن يتحدث مع الصياد "
        "عن الطقس. بعد الظهر تُرفع البضائع من الساحة، وتصبح لعدة ساعات مكانا للأطفال الذين يركبون الدراجات بين البيوت. "
        "أما في الشتاء فإن المدينة هادئة، لأن الثلج يغطي الطرق التي تؤدي إلى القرى، ولا يخرج من البيت أحد إلا من كان "
        "عنده عمل لا بد منه.\n"
    ),
    "hi": (
        "यह छोटा शहर एक चौड़ी नदी के किनारे बसा है और हर शनिवार को किसान अपनी गाड़ियों के साथ बाज़ार में आते हैं। वे रोटी, पनीर और "
        "सेब बेचते हैं, जो उन्होंने पतझड़ में पुराने पेड़ों से तोड़े थे। जो लोग जल्दी उठते हैं, उन्हें ताज़ी मछली मिल जाती है और वे मछुआरे से मौसम की "
        "बात कर सकते हैं। दोपहर के बाद दुकानें हटा दी जाती हैं और कुछ घंटों के लिए मैदान बच्चों का हो जाता है, जो वहाँ साइकिल चलाते हैं। "
        "सर्दियों में शहर शांत रहता है, क्योंकि रास्तों पर बर्फ़ होती है और लोग घर से कम निकलते हैं।\n"
    ),
    "th": (
        "เมืองเล็กแห่งนี้อยู่ริมแม่น้ำกว้าง และทุกวันเสาร์ชาวนาจะมาที่ตลาดพร้อมกับเกวียนของพวกเขา พวกเขาขายขนมปัง เนยแข็ง "
        "และแอปเปิลที่เก็บจากต้นเก่าแก่ในฤดูใบไม้ร่วง คนที่ตื่นแต่เช้าจะได้ปลาสด และมีโอกาสพูดคุยกับชาวประมงเรื่องอากาศ "
        "ตอนบ่ายร้านค้าจะเก็บของ และลานกว้างก็เป็นของเด็ก ๆ ที่มาขี่จักรยานกันหลายชั่วโมง ในฤดูหนาวเมืองจะเงียบกว่าปกติ "
        "เพราะถนนหลายสายมีหิมะปกคลุม และผู้คนก็ไม่ค่อยออกจากบ้าน เมื่อถึงฤดูใบไม้ผลิ น้ำแข็งในแม่น้ำละลาย เรือก็แล่นไปอีกฝั่งได้\n"
    ),
}
