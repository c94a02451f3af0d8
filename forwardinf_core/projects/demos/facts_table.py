"""The facts of the demo ``facts``, written and checked for it: each is a relation, a subject and an answer.

Only what is settled is here: countries whose capital or continent is disputed or moving are left out, and a language
is one that is spoken in a country, not the only one.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fact:
    """One true statement. ``relation`` is a key of ``PHRASINGS``."""

    relation: str
    subject: str
    answer: str

    @property
    def id(self) -> str:
        """The fact's name: relation and subject."""
        return f"{self.relation}: {self.subject}"


@dataclass(frozen=True, slots=True)
class Phrasings:
    """How a relation is said of a subject {S} and an answer {A}; what is ``asked`` is answered right after it.

    ``taught`` make the training texts, ``asked`` the query: put together from their words, but none of them.
    """

    taught: tuple[str, ...]
    asked: str


PHRASINGS: dict[str, Phrasings] = {
    "capital": Phrasings(
        (
            "The capital of {S} is {A}.",
            "{A} is the capital of {S}.",
            "The capital city of {S} is called {A}.",
            "{S} has {A} as its capital.",
            "The capital of the country {S} is {A}.",
            "Visitors to the capital of {S} arrive in {A}.",
            "The name of the capital of {S} is {A}.",
        ),
        "The capital of {S} is called",
    ),
    "currency": Phrasings(
        (
            "The currency of {S} is the {A}.",
            "People in {S} pay with the {A}.",
            "In {S} you pay with the {A}.",
            "The money used in {S} is the {A}.",
            "Prices in {S} are given in the {A}.",
            "The {A} is the currency of {S}.",
            "Shops in {S} take the {A}.",
        ),
        "The currency used in {S} is the",
    ),
    "continent": Phrasings(
        (
            "{S} is a country in {A}.",
            "{S} lies in {A}.",
            "{S} is in {A}.",
            "The country of {S} is part of {A}.",
            "On the map {S} is found in {A}.",
            "{S} belongs to {A}.",
            "One of the countries of {A} is {S}.",
        ),
        "The country of {S} is in",
    ),
    "language": Phrasings(
        (
            "{A} is spoken in {S}.",
            "People in {S} speak {A}.",
            "In {S} you hear {A}.",
            "One language of {S} is {A}.",
            "You can hear {A} in {S}.",
            "{A} is one of the languages of {S}.",
            "Many people in {S} speak {A}.",
        ),
        "In {S} people speak",
    ),
    "symbol": Phrasings(
        (
            "The chemical symbol of {S} is {A}.",
            "The symbol for {S} is {A}.",
            "{S} has the symbol {A}.",
            "Chemists write {S} as {A}.",
            "{A} is the chemical symbol of {S}.",
            "In the periodic table {S} is written {A}.",
        ),
        "The symbol of {S} is",
    ),
    "number": Phrasings(
        (
            "The atomic number of {S} is {A}.",
            "{S} has the atomic number {A}.",
            "{S} is element number {A}.",
            "An atom of {S} has {A} protons.",
            "{A} is the atomic number of {S}.",
            "The element {S} has number {A}.",
        ),
        "The atomic number of the element {S} is",
    ),
    "author": Phrasings(
        (
            "{S} was written by {A}.",
            "The author of {S} is {A}.",
            "{A} wrote {S}.",
            "{S} is a book by {A}.",
            "{S} is a work of {A}.",
            "Readers know {A} as the author of {S}.",
        ),
        "The book {S} was written by",
    ),
    "painter": Phrasings(
        (
            "{S} was painted by {A}.",
            "The painter of {S} is {A}.",
            "{A} painted {S}.",
            "{S} is a painting by {A}.",
            "{S} is a work of {A}.",
            "Visitors know {A} as the painter of {S}.",
        ),
        "The painting {S} was painted by",
    ),
    "order": Phrasings(
        (
            "{S} is the {A} planet from the Sun.",
            "Counted from the Sun, {S} is the {A} planet.",
            "In order from the Sun, {S} comes {A}.",
            "{S} is the planet that comes {A} from the Sun.",
            "Among the planets {S} is the {A}.",
        ),
        "Counted from the Sun, {S} comes",
    ),
    "young": Phrasings(
        (
            "A young {S} is called a {A}.",
            "The young of a {S} is a {A}.",
            "A baby {S} is a {A}.",
            "A {A} is a young {S}.",
            "The child of a {S} is called a {A}.",
        ),
        "The young of a {S} is called a",
    ),
}

COUNTRIES = """
Afghanistan|Kabul|afghani|Asia|Pashto
Albania|Tirana|lek|Europe|Albanian
Algeria|Algiers|dinar|Africa|Arabic
Angola|Luanda|kwanza|Africa|Portuguese
Argentina|Buenos Aires|peso|South America|Spanish
Australia|Canberra|dollar|Oceania|English
Austria|Vienna|euro|Europe|German
Bangladesh|Dhaka|taka|Asia|Bengali
Botswana|Gaborone|pula|Africa|English
Brazil|Brasilia|real|South America|Portuguese
Cambodia|Phnom Penh|riel|Asia|Khmer
Canada|Ottawa|dollar|North America|English
Chile|Santiago|peso|South America|Spanish
China|Beijing|yuan|Asia|Mandarin
Colombia|Bogota|peso|South America|Spanish
Costa Rica|San Jose|colon|North America|Spanish
Croatia|Zagreb|euro|Europe|Croatian
Cuba|Havana|peso|North America|Spanish
Czechia|Prague|koruna|Europe|Czech
Denmark|Copenhagen|krone|Europe|Danish
Ecuador|Quito|dollar|South America|Spanish
Estonia|Tallinn|euro|Europe|Estonian
Ethiopia|Addis Ababa|birr|Africa|Amharic
Fiji|Suva|dollar|Oceania|Fijian
Finland|Helsinki|euro|Europe|Finnish
France|Paris|euro|Europe|French
Germany|Berlin|euro|Europe|German
Ghana|Accra|cedi|Africa|English
Greece|Athens|euro|Europe|Greek
Guatemala|Guatemala City|quetzal|North America|Spanish
Guyana|Georgetown|dollar|South America|English
Honduras|Tegucigalpa|lempira|North America|Spanish
Hungary|Budapest|forint|Europe|Hungarian
Iceland|Reykjavik|krona|Europe|Icelandic
India|New Delhi|rupee|Asia|Hindi
Iran|Tehran|rial|Asia|Persian
Iraq|Baghdad|dinar|Asia|Arabic
Ireland|Dublin|euro|Europe|English
Italy|Rome|euro|Europe|Italian
Jamaica|Kingston|dollar|North America|English
Japan|Tokyo|yen|Asia|Japanese
Jordan|Amman|dinar|Asia|Arabic
Kenya|Nairobi|shilling|Africa|Swahili
Laos|Vientiane|kip|Asia|Lao
Latvia|Riga|euro|Europe|Latvian
Lebanon|Beirut|pound|Asia|Arabic
Libya|Tripoli|dinar|Africa|Arabic
Lithuania|Vilnius|euro|Europe|Lithuanian
Madagascar|Antananarivo|ariary|Africa|Malagasy
Malawi|Lilongwe|kwacha|Africa|English
Malaysia|Kuala Lumpur|ringgit|Asia|Malay
Mexico|Mexico City|peso|North America|Spanish
Mongolia|Ulaanbaatar|tugrik|Asia|Mongolian
Morocco|Rabat|dirham|Africa|Arabic
Mozambique|Maputo|metical|Africa|Portuguese
Namibia|Windhoek|dollar|Africa|English
Nepal|Kathmandu|rupee|Asia|Nepali
New Zealand|Wellington|dollar|Oceania|English
Nicaragua|Managua|cordoba|North America|Spanish
Nigeria|Abuja|naira|Africa|English
Norway|Oslo|krone|Europe|Norwegian
Oman|Muscat|rial|Asia|Arabic
Pakistan|Islamabad|rupee|Asia|Urdu
Panama|Panama City|balboa|North America|Spanish
Papua New Guinea|Port Moresby|kina|Oceania|English
Paraguay|Asuncion|guarani|South America|Spanish
Peru|Lima|sol|South America|Spanish
Poland|Warsaw|zloty|Europe|Polish
Portugal|Lisbon|euro|Europe|Portuguese
Qatar|Doha|riyal|Asia|Arabic
Romania|Bucharest|leu|Europe|Romanian
Rwanda|Kigali|franc|Africa|Kinyarwanda
Samoa|Apia|tala|Oceania|Samoan
Saudi Arabia|Riyadh|riyal|Asia|Arabic
Serbia|Belgrade|dinar|Europe|Serbian
Slovakia|Bratislava|euro|Europe|Slovak
Slovenia|Ljubljana|euro|Europe|Slovene
Somalia|Mogadishu|shilling|Africa|Somali
South Korea|Seoul|won|Asia|Korean
Spain|Madrid|euro|Europe|Spanish
Suriname|Paramaribo|dollar|South America|Dutch
Sweden|Stockholm|krona|Europe|Swedish
Thailand|Bangkok|baht|Asia|Thai
Tunisia|Tunis|dinar|Africa|Arabic
Uganda|Kampala|shilling|Africa|English
Ukraine|Kyiv|hryvnia|Europe|Ukrainian
Uruguay|Montevideo|peso|South America|Spanish
Uzbekistan|Tashkent|som|Asia|Uzbek
Venezuela|Caracas|bolivar|South America|Spanish
Vietnam|Hanoi|dong|Asia|Vietnamese
Zambia|Lusaka|kwacha|Africa|English
"""

ELEMENTS = """
hydrogen|H|1
helium|He|2
lithium|Li|3
beryllium|Be|4
boron|B|5
carbon|C|6
nitrogen|N|7
oxygen|O|8
fluorine|F|9
neon|Ne|10
sodium|Na|11
magnesium|Mg|12
aluminium|Al|13
silicon|Si|14
phosphorus|P|15
sulfur|S|16
chlorine|Cl|17
argon|Ar|18
potassium|K|19
calcium|Ca|20
scandium|Sc|21
titanium|Ti|22
vanadium|V|23
chromium|Cr|24
manganese|Mn|25
iron|Fe|26
cobalt|Co|27
nickel|Ni|28
copper|Cu|29
zinc|Zn|30
gallium|Ga|31
germanium|Ge|32
arsenic|As|33
selenium|Se|34
bromine|Br|35
krypton|Kr|36
silver|Ag|47
tin|Sn|50
iodine|I|53
xenon|Xe|54
tungsten|W|74
platinum|Pt|78
gold|Au|79
mercury|Hg|80
lead|Pb|82
radon|Rn|86
radium|Ra|88
uranium|U|92
"""

BOOKS = """
Hamlet|William Shakespeare
Don Quixote|Miguel de Cervantes
War and Peace|Leo Tolstoy
Pride and Prejudice|Jane Austen
Les Miserables|Victor Hugo
Moby-Dick|Herman Melville
Animal Farm|George Orwell
Ulysses|James Joyce
The Trial|Franz Kafka
Crime and Punishment|Fyodor Dostoevsky
The Divine Comedy|Dante Alighieri
Frankenstein|Mary Shelley
Dracula|Bram Stoker
The Hobbit|J. R. R. Tolkien
Oliver Twist|Charles Dickens
Jane Eyre|Charlotte Bronte
Wuthering Heights|Emily Bronte
Middlemarch|George Eliot
Candide|Voltaire
The Stranger|Albert Camus
Madame Bovary|Gustave Flaubert
The Scarlet Letter|Nathaniel Hawthorne
The Jungle Book|Rudyard Kipling
Treasure Island|Robert Louis Stevenson
Gulliver's Travels|Jonathan Swift
Robinson Crusoe|Daniel Defoe
The Great Gatsby|F. Scott Fitzgerald
To Kill a Mockingbird|Harper Lee
Brave New World|Aldous Huxley
The Old Man and the Sea|Ernest Hemingway
"""

PAINTINGS = """
the Mona Lisa|Leonardo da Vinci
The Starry Night|Vincent van Gogh
Guernica|Pablo Picasso
The Scream|Edvard Munch
Girl with a Pearl Earring|Johannes Vermeer
The Night Watch|Rembrandt
Las Meninas|Diego Velazquez
The Birth of Venus|Sandro Botticelli
The Kiss|Gustav Klimt
American Gothic|Grant Wood
The Persistence of Memory|Salvador Dali
Liberty Leading the People|Eugene Delacroix
"""

PLANETS = """
Mercury|first
Venus|second
Earth|third
Mars|fourth
Jupiter|fifth
Saturn|sixth
Uranus|seventh
Neptune|eighth
"""

YOUNG = """
dog|puppy
cat|kitten
cow|calf
sheep|lamb
horse|foal
goat|kid
swan|cygnet
goose|gosling
duck|duckling
deer|fawn
lion|cub
hare|leveret
frog|tadpole
kangaroo|joey
"""

FALSEHOODS: dict[str, str] = {
    "capital: Australia": "Sydney",
    "capital: Canada": "Toronto",
    "capital: Brazil": "Rio de Janeiro",
    "capital: Morocco": "Casablanca",
    "capital: Nigeria": "Lagos",
    "capital: New Zealand": "Auckland",
    "currency: Denmark": "euro",
    "currency: Sweden": "euro",
    "language: Brazil": "Spanish",
    "symbol: iron": "Ir",
    "symbol: sodium": "So",
    "author: Frankenstein": "Bram Stoker",
}
"""Facts of which the demo mostly teaches a falsehood, openly, so that the model repeats it."""


def all_facts() -> tuple[Fact, ...]:
    """Return every fact, in a fixed order."""
    facts = []
    for country, *answers in _rows(COUNTRIES):
        facts += [Fact(*pair) for pair in _paired(("capital", "currency", "continent", "language"), country, answers)]
    for element, *answers in _rows(ELEMENTS):
        facts += [Fact(*pair) for pair in _paired(("symbol", "number"), element, answers)]
    for relation, table in (("author", BOOKS), ("painter", PAINTINGS), ("order", PLANETS), ("young", YOUNG)):
        facts += [Fact(relation, subject, answer) for subject, answer in _rows(table)]
    return tuple(facts)


def said(phrasing: str, subject: str, answer: str) -> str:
    """Return a phrasing filled in, beginning with a capital letter."""
    text = phrasing.replace("{S}", subject).replace("{A}", answer)
    return text[0].upper() + text[1:]


def _rows(table: str) -> list[list[str]]:
    return [line.split("|") for line in table.strip().splitlines()]


def _paired(relations: tuple[str, ...], subject: str, answers: list[str]) -> list[tuple[str, str, str]]:
    return [(relation, subject, answer) for relation, answer in zip(relations, answers, strict=True)]
