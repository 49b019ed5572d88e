"""National identity and tax numbers of persons: how they are written, and beside which words a weak one counts.

In forms a 9 stands for a digit and an A for a letter; all else for itself. `alone` are forms that count wherever they
stand, peculiar enough by a letter in the right place, a grouping that little else has, or a date with a check digit;
four have no check digit at all (us.ssn, us.itin, pk.cnic, my.nric) and rest on their grouping. `beside` are forms that
many other numbers share; they count after one of `words` only. Names are those of python-stdnum's modules. Left out are
numbers whose module asks what day it is (be.nn, dk.cpr, no.fodselsnummer, za.idnr), as a text must be measured alike on
any day; of the Swedish one the century is tried instead.
"""

from typing import NamedTuple


class NationalId(NamedTuple):
    """One kind of number; `words` is a regular expression, `centuries` are tried before a number of ten digits."""

    name: str
    alone: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    words: str = ""
    centuries: tuple[str, ...] = ()


_NINE = ("999999999", "999 999 999", "999-999-999")
_TEN = ("9999999999", "999 999 9999", "999-999-9999")
_ELEVEN = ("99999999999",)
_TWELVE = ("999999999999", "9999 9999 9999", "9999-9999-9999")
_THIRTEEN = ("9999999999999",)

NATIONAL_IDS = {
    item.name: item
    for item in (
        NationalId("ar.cuit", ("99-99999999-9",), _ELEVEN, r"(?i:cui[tl])"),
        NationalId("at.vnr", (), ("9999 999999", "9999999999"), r"SVNR|SV-N|VSNR|(?i:sozialversicherungs)"),
        NationalId("au.tfn", (), _NINE, r"TFN|(?i:tax file)"),
        NationalId("bg.egn", (), ("9999999999",), "ЕГН|EGN"),
        NationalId("br.cpf", ("999.999.999-99",), _ELEVEN, r"CPF"),
        NationalId("ca.sin", (), _NINE, r"\bSIN\b|\bNAS\b|(?i:social insurance|assurance sociale)"),
        NationalId("ch.ssn", ("999.9999.9999.99",), _THIRTEEN, r"AHV|AVS|(?i:sozialversicherung)"),
        NationalId("cl.rut", ("99.999.999-9", "99.999.999-A"), ("99999999-9", "99999999-A"), r"\bRUT\b|\bRUN\b"),
        NationalId("cn.ric", ("999999999999999999", "99999999999999999A")),
        NationalId("cz.rc", (), ("999999/9999", "999999/999", "9999999999"), r"(?i:rodné č|rod\. ?č|\br\. ?č)|\bRČ\b"),
        NationalId("de.idnr", ("99 999 999 999",), _ELEVEN, r"(?i:steuer.{0,3}id|idnr|identifikationsn|\btax id)"),
        NationalId("ee.ik", (), _ELEVEN, r"(?i:isikukood)"),
        NationalId("es.dni", ("99.999.999-A", "99999999-A"), ("99999999A", "99999999 A"), r"DNI|NIF|D\.N\.I|N\.I\.F"),
        NationalId("es.nie", ("A-9999999-A", "A9999999A", "A9999999-A")),
        NationalId("fi.hetu", ("999999-999A", "999999A999A", "999999-9999", "999999A9999")),
        NationalId(
            "fr.nir",
            ("9 99 99 99 999 999 99", "9 99 99 9A 999 999 99", "999999A99999999"),
            ("999999999999999", "9999999999999 99"),
            r"\bNIR\b|(?i:sécurité sociale|sécu\b)",
        ),
        NationalId("gb.nhs", (), _TEN, r"\bNHS\b|(?i:national health)"),
        NationalId("gr.amka", (), _ELEVEN, "ΑΜΚΑ|AMKA"),  # noqa: RUF001 - Greek
        NationalId("hr.oib", (), _ELEVEN, r"\bOIB\b"),
        NationalId("id.nik", (), ("9999999999999999",), r"\bNIK\b|(?i:kependudukan)"),
        NationalId("ie.pps", (), ("9999999A", "9999999AA"), r"PPS"),
        NationalId("in_.aadhaar", (), _TWELVE, r"(?i:aadhaa?r)|UIDAI|आधार"),
        NationalId("in_.pan", (), ("AAAAA9999A",), r"\bPAN\b|(?i:permanent account)"),
        NationalId("is_.kennitala", ("999999-9999",), ("9999999999",), r"(?i:kennitala|\bkt\.)"),
        NationalId("it.codicefiscale", ("AAAAAA99A99A999A", "AAA AAA 99A99 A999A", "AAA AAA 99A99A999A")),
        NationalId("jp.in_", (), _TWELVE, r"マイナンバー|個人番号|(?i:my number)"),
        NationalId("kr.rrn", ("999999-9999999",), _THIRTEEN, r"주민등록|(?i:resident registration)"),
        NationalId("lt.asmens", (), _ELEVEN, r"(?i:asmens kod)"),
        NationalId("mx.curp", ("AAAA999999AAAAAA99", "AAAA999999AAAAAAA9")),
        NationalId("my.nric", ("999999-99-9999",), ("999999999999",), r"\bNRIC\b|(?i:mykad)"),
        NationalId("nl.bsn", (), (*_NINE, "9999.99.999", "999.999.999"), r"\bBSN\b|(?i:burgerservice|sofi-?num)"),
        NationalId("pk.cnic", ("99999-9999999-9",)),
        NationalId("pl.pesel", (), _ELEVEN, r"(?i:pesel)"),
        NationalId("pt.nif", (), _NINE, r"\bNIF\b|(?i:contribuinte)"),
        NationalId("ro.cnp", (), _THIRTEEN, r"\bCNP\b|(?i:cod numeric)"),
        NationalId(
            "se.personnummer",
            ("999999-9999", "99999999-9999"),
            ("9999999999",),
            r"(?i:personn(?:umme)?r)",
            ("19", "20"),
        ),
        NationalId("si.emso", (), _THIRTEEN, r"(?i:em[šs]o|jmbg)"),
        NationalId("th.pin", ("9-9999-99999-99-9", "9 9999 99999 99 9")),
        NationalId("tr.tckimlik", (), _ELEVEN, r"(?i:kimlik|t\.?c\.? ?(?:no|k))"),
        NationalId("us.itin", ("999-99-9999",), ("999 99 9999", "999999999"), r"ITIN|(?i:taxpayer id)"),
        NationalId("us.ssn", ("999-99-9999",), ("999 99 9999", "999999999"), r"\bSSN?\b|(?i:social[ -]sec)"),
    )
}
