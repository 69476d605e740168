"""The continent of a country, by its ISO 3166-1 alpha-3 code.

Source: the United Nations' standard M49, with the Americas cut where M49 cuts South America off. The islands around
Antarctica, which M49 gives to other regions, are with it; Taiwan and Kosovo (XKX), which M49 does not have, are where
they lie.
"""

from __future__ import annotations

UNKNOWN = "unknown"
"""Of what is no such code, as fMoW's KO- and CA-."""

_CODES = {
    "Africa": """
        AGO BDI BEN BFA BWA CAF CIV CMR COD COG COM CPV DJI DZA EGY ERI ESH ETH GAB GHA GIN GMB GNB GNQ IOT KEN LBR LBY
        LSO MAR MDG MLI MOZ MRT MUS MWI MYT NAM NER NGA REU RWA SDN SEN SHN SLE SOM SSD STP SWZ SYC TCD TGO TUN TZA UGA
        ZAF ZMB ZWE""",
    "Antarctica": "ATA ATF BVT HMD SGS",
    "Asia": """
        AFG ARE ARM AZE BGD BHR BRN BTN CHN CYP GEO HKG IDN IND IRN IRQ ISR JOR JPN KAZ KGZ KHM KOR KWT LAO LBN LKA MAC
        MDV MMR MNG MYS NPL OMN PAK PHL PRK PSE QAT SAU SGP SYR THA TJK TKM TLS TUR TWN UZB VNM YEM""",
    "Europe": """
        ALA ALB AND AUT BEL BGR BIH BLR CHE CZE DEU DNK ESP EST FIN FRA FRO GBR GGY GIB GRC HRV HUN IMN IRL ISL ITA JEY
        LIE LTU LUX LVA MCO MDA MKD MLT MNE NLD NOR POL PRT ROU RUS SJM SMR SRB SVK SVN SWE UKR VAT XKX""",
    "North America": """
        ABW AIA ATG BES BHS BLM BLZ BMU BRB CAN CRI CUB CUW CYM DMA DOM GLP GRD GRL GTM HND HTI JAM KNA LCA MAF MEX MSR
        MTQ NIC PAN PRI SLV SPM SXM TCA TTO USA VCT VGB VIR""",
    "Oceania": """
        ASM AUS CCK COK CXR FJI FSM GUM KIR MHL MNP NCL NFK NIU NRU NZL PCN PLW PNG PYF SLB TKL TON TUV UMI VUT WLF
        WSM""",
    "South America": "ARG BOL BRA CHL COL ECU FLK GUF GUY PER PRY SUR URY VEN",
}
_CONTINENTS = {code: continent for continent, codes in _CODES.items() for code in codes.split()}


def continent_of(country: str | None) -> str:
    """The continent, or `UNKNOWN` of anything else than an ISO 3166-1 alpha-3 code, or XKX."""
    return _CONTINENTS.get(country or "", UNKNOWN)
