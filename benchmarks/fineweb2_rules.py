"""Write `pipeline/signals/fineweb2.json`: thresholds and stop words of FineWeb-2 by the codes of our language model.

    git clone https://github.com/huggingface/fineweb-2 && python -m benchmarks.fineweb2_rules fineweb-2/configs

A configuration of FineWeb-2 is of a language in a script, as ISO 639-3 and ISO 15924. Where a language is written in two
scripts, thresholds are those of the first configuration and stop words those of all. Stop words that are punctuation are
left out, since no word of ours is.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from fox1.pipeline.signals import fineweb2
from fox1.pipeline.signals.language import load_model

CONFIGURATIONS = """
ace ace_Latn | af afr_Latn | am amh_Ethi | an arg_Latn | ar arb_Arab | ary ary_Arab | arz arz_Arab | as asm_Beng
az azj_Latn azj_Cyrl | ba bak_Cyrl | bcl bcl_Latn | be bel_Cyrl | bg bul_Cyrl | bn ben_Beng | br bre_Latn | bs bos_Latn
ca cat_Latn | crh crh_Latn crh_Cyrl | cs ces_Latn | cy cym_Latn | da dan_Latn | de deu_Latn | dz dzo_Tibt | el ell_Grek
eo epo_Latn | es spa_Latn | et ekk_Latn | eu eus_Latn | ext ext_Latn | fa fas_Arab | fi fin_Latn | fo fao_Latn | fr fra_Latn
fuv fuv_Latn | fy fry_Latn | ga gle_Latn | gcf gcf_Latn | gcr gcr_Latn | gd gla_Latn | gl glg_Latn | gom gom_Deva gom_Latn
grc grc_Grek | gu guj_Gujr | gug gug_Latn | guw guw_Latn | ha hau_Latn | hbo hbo_Hebr | he heb_Hebr | hi hin_Deva | hr hrv_Latn
ht hat_Latn | hu hun_Latn | hy hye_Armn | id ind_Latn | ig ibo_Latn | is isl_Latn | it ita_Latn | ja jpn_Jpan | jv jav_Latn
ka kat_Geor | kab kab_Latn | kik kik_Latn | kk kaz_Cyrl | km khm_Khmr | kn kan_Knda | ko kor_Hang | ku kmr_Latn | ky kir_Cyrl
la lat_Latn | lb ltz_Latn | lg lug_Latn | lij lij_Latn | ln lin_Latn | lo lao_Laoo | lt lit_Latn | ltg ltg_Latn | lv lvs_Latn
mg plt_Latn | mk mkd_Cyrl | ml mal_Mlym | mn khk_Cyrl | mr mar_Deva | ms zsm_Latn | mt mlt_Latn | my mya_Mymr | ne npi_Deva
nl nld_Latn | nn nno_Latn | no nob_Latn | nso nso_Latn | oc oci_Latn | om gaz_Latn | or ory_Orya | pa pan_Guru | pcm pcm_Latn
pl pol_Latn | ps pbt_Arab | pt por_Latn | qu quy_Latn quz_Latn | ro ron_Latn ron_Cyrl | ru rus_Cyrl | rw kin_Latn | sa san_Deva
sdh sdh_Arab | se sme_Latn | si sin_Sinh | sk slk_Latn | sl slv_Latn | sn sna_Latn | so som_Latn | sq als_Latn
sr srp_Cyrl srp_Latn | st sot_Latn | sv swe_Latn | sw swh_Latn | ta tam_Taml | te tel_Telu | tg tgk_Cyrl | th tha_Thai
tk tuk_Latn tuk_Cyrl | tl fil_Latn | tr tur_Latn | tt tat_Cyrl tat_Latn | ug uig_Arab | uk ukr_Cyrl | ur urd_Arab
uz uzn_Latn uzn_Cyrl | uzs uzs_Arab | vec vec_Latn | vi vie_Latn | vo vol_Latn | wa wln_Latn | xh xho_Latn | yo yor_Latn
zh cmn_Hani | zu zul_Latn
"""
"""A code of the language model, and the configurations of its language."""


def configurations() -> dict[str, list[str]]:
    """Code of the language model -> the configurations of its language, the first of its main script."""
    entries = (entry.split() for entry in CONFIGURATIONS.replace("|", "\n").strip().splitlines())
    return {code: names for code, *names in entries}


def configuration_of(language: str) -> str:
    """The name by which datatrove knows a language in its main script."""
    return configurations()[language][0]


def rules_of(read: list[dict[str, Any]]) -> dict[str, Any]:
    """What the file holds of a language, from its configurations."""
    first = read[0]
    words = [str(word) for one in read for word in one["stopwords"]]
    return {
        **{name: first[name] for name in fineweb2.THRESHOLDS},
        **{name: [share for _, share in sorted(first[name])] for name in fineweb2.SHARES},
        "stopwords": [word for word in dict.fromkeys(words) if any(c.isalnum() for c in word)],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("configs", type=Path)
    folder = parser.parse_args().configs
    found: dict[str, Any] = {}
    for code, names in configurations().items():
        found[code] = rules_of([yaml.safe_load((folder / f"{name}.yml").read_text()) for name in names])
    lines = [f"{json.dumps(code)}: {json.dumps(rules, ensure_ascii=False)}" for code, rules in found.items()]
    fineweb2.FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(f"{len(found)} languages; without: {', '.join(sorted({*load_model().languages} - {*found}))}")


if __name__ == "__main__":
    main()
